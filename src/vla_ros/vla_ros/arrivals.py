# SPDX-License-Identifier: MIT
"""Sleep until a message comes, instead of looking again and again."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from vla_ros.polled_subscription import PolledSubscription


class Arrivals:
    """Wakes one thread when a message waits in any of some subscriptions.

    Args:
        node: Node of the subscriptions.
        sources: The subscriptions.
    """

    def __init__(self, node: Node, sources: Iterable[PolledSubscription[Any]]) -> None:
        self._sources = tuple(sources)
        # As rclpy.wait_for_message does; an executor would take the messages itself.
        self._wait_set = rclpy_implementation.WaitSet(
            len(self._sources), 0, 0, 0, 0, 0, node.context.handle
        )

    def wait(self, timeout_s: float) -> None:
        """Return when a message waits to be taken, at the latest after this time."""
        with ExitStack() as in_use:
            self._wait_set.clear_entities()
            for source in self._sources:
                in_use.enter_context(source.handle)
                self._wait_set.add_subscription(source.handle)
            self._wait_set.wait(max(0, round(timeout_s * 1e9)))
