# SPDX-License-Identifier: MIT
"""Keep a paced loop on time while other processes want the same cores."""

from __future__ import annotations

import os

from rclpy.node import Node


def raise_priority(node: Node, priority: int) -> None:
    """Run the calling thread with a real-time priority (SCHED_FIFO), if that is permitted.

    Args:
        node: Says so in its log when it is not permitted.
        priority: From 1 to 99; 0 leaves the thread as it is.
    """
    if priority == 0:
        return
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (AttributeError, OSError):
        node.get_logger().info(
            f"real-time priority {priority} is not permitted (ulimit -r); the loop may be late "
            "when the machine is busy."
        )


def priority_of(pid: int) -> int:
    """Return the real-time priority of a process's main thread, 0 if it is an ordinary one."""
    try:
        return os.sched_getparam(pid).sched_priority
    except (AttributeError, OSError):
        return 0
