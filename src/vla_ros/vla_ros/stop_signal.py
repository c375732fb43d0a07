# SPDX-License-Identifier: MIT
"""Let a node's loop end between two turns when SIGINT or SIGTERM arrives.

rclpy's own handlers shut its context down at once, in the middle of whatever the loop does: the
next publish fails and nothing can be closed in order.
"""

from __future__ import annotations

import gc
import signal
from types import FrameType

import rclpy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import try_shutdown

from vla_ros.dead_ports import avoid_dead_ports


class StopSignal:
    """Initialise rclpy without its signal handlers, and remember whether a signal arrived.

    Use it as a context manager around all that a process does::

        with StopSignal(args) as stop:
            node = SimRobotNode()
            while not stop.is_set:
                node.tick()

    Args:
        args: Command line with ROS arguments; None takes that of the process.

    Attributes:
        is_set: Whether SIGINT or SIGTERM has arrived.
    """

    def __init__(self, args: list[str] | None = None) -> None:
        self._args = args
        self.is_set = False

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._set)
        self._dead_ports = avoid_dead_ports()
        rclpy.init(args=self._args, signal_handler_options=SignalHandlerOptions.NO)
        return self

    def __exit__(self, *_: object) -> None:
        try_shutdown()
        # Ctrl-C in a terminal comes from there and from the launch system; the second must not
        # turn the end of the process into a failure.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._dead_ports.close()
        # What a node has frozen would never be freed, itself and its participant included: the
        # middleware's threads would run into the end of the process, which now and then crashes.
        gc.unfreeze()

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
