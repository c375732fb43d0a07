# SPDX-License-Identifier: MIT
"""The time of a node, fresh whenever it is asked for, on wall time and on /clock.

rclpy advances a node's clock under ``use_sim_time`` only when an executor runs the callback of
/clock. A loop that spins its node rarely, or a thread beside the executor, would see time stand
still; here /clock is read when the time is asked for.
"""

from __future__ import annotations

import threading

from rclpy.clock import Clock as SteadyClock
from rclpy.clock import ClockType  # type: ignore[attr-defined]  # Humble has it nowhere else
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from vla_core.processing.messages import time_ns
from vla_ros.polled_subscription import PolledSubscription

CLOCK_TOPIC = "/clock"


def steady_clock() -> SteadyClock:
    """Return a clock for timers that go on where /clock stands still."""
    return SteadyClock(clock_type=ClockType.STEADY_TIME)


class NodeClock:
    """Tells the time of a node; safe to use from several threads.

    Args:
        node: Node whose parameter ``use_sim_time`` decides, as it is now.

    Attributes:
        is_simulated: Whether /clock gives the time.
    """

    def __init__(self, node: Node) -> None:
        self.is_simulated = bool(node.get_parameter("use_sim_time").value)
        self._clock = node.get_clock()
        self._lock = threading.Lock()
        self._simulated_ns = 0
        self._ticks: PolledSubscription[Clock] | None = None
        if self.is_simulated:
            profile = QoSProfile(
                history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
            )
            self._ticks = PolledSubscription(node, Clock, CLOCK_TOPIC, profile)

    def now_ns(self) -> int:
        """Return the time now; on /clock that of its last message, 0 before the first."""
        if self._ticks is None:
            return int(self._clock.now().nanoseconds)
        with self._lock:
            newest = self._ticks.take()
            if newest is not None:
                self._simulated_ns = time_ns(newest.clock)
            return self._simulated_ns
