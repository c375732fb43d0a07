# SPDX-License-Identifier: MIT
"""The main function of every lifecycle node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger

from vla_core.errors import VLAError
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.lifecycle_node import ManagedNode
from vla_ros.memory import keep_freed_memory
from vla_ros.realtime import raise_priority
from vla_ros.stop_signal import StopSignal

# In which the last answers, such as the result of a goal, leave.
_LAST_TURNS = 5


def run_node(
    name: str, make_node: Callable[[], ManagedNode[Any]], args: list[str] | None = None
) -> int:
    """Run a node until SIGINT or SIGTERM, or until its work fails.

    Args:
        name: Its name.
        make_node: Makes it.
        args: Command line with ROS arguments; None takes that of the process.

    Returns:
        Exit status of the process: EXIT_CONFIGURATION for a node that cannot be configured.
    """
    keep_freed_memory()
    with StopSignal(args) as stop:
        try:
            node = make_node()
        except VLAError as error:
            get_logger(name).fatal(str(error))
            return EXIT_CONFIGURATION
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        raise_priority(node, node.main_priority)
        is_up, has_failed = True, True
        try:
            if node.parameters.autostart:
                is_up = _bring_up(node)
            while is_up and not stop.is_set and not node.has_failed:
                node.turn(executor)
            has_failed = node.has_failed
        finally:
            node.tear_down()
            has_failed |= node.has_failed
            for _ in range(_LAST_TURNS):
                executor.spin_once(timeout_sec=0.0)
            executor.shutdown()
            if is_up and not has_failed:
                node.forget()
            node.destroy_node()
        if not is_up:
            return EXIT_CONFIGURATION
        return 1 if has_failed else 0


def _bring_up(node: ManagedNode[Any]) -> bool:
    """Return whether it went well; if not, the node has logged why."""
    try:
        node.bring_up()
    except VLAError:
        return False
    return True
