# SPDX-License-Identifier: MIT
"""Receive data by polling from a paced loop instead of by callbacks.

An executor wakes up for every message and takes time from the tick; a control loop wants only the
newest message, when its tick begins.
"""

from __future__ import annotations

import time
from typing import Any, Generic, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile

MessageT = TypeVar("MessageT")


class _NeverExecuted(CallbackGroup):
    """Keep subscriptions out of every executor's wait set, even when their node is spun."""

    def can_execute(self, entity: object) -> bool:
        return False

    def beginning_execution(self, entity: object) -> bool:
        return False

    def ending_execution(self, entity: object) -> None:
        return None


class PolledSubscription(Generic[MessageT]):
    """A subscription that is read when its owner asks.

    The node may be spun for its services and parameters: no executor ever touches this
    subscription.

    Args:
        node: Node that subscribes.
        message_type: Class of the messages.
        topic: Topic name, relative to the node's namespace, or ``~/...``.
        qos_profile: Profile; its depth bounds how many messages wait to be taken.
        raw: Return serialised messages as bytes.

    Attributes:
        num_received: Messages that were taken so far, also those that a newer one superseded.
    """

    def __init__(
        self,
        node: Node,
        message_type: type[MessageT],
        topic: str,
        qos_profile: QoSProfile,
        *,
        raw: bool = False,
    ) -> None:
        self._node = node
        self._group = _NeverExecuted()
        self._subscription = node.create_subscription(
            message_type,
            topic,
            _ignore,
            qos_profile,
            callback_group=self._group,
            raw=raw,
        )
        self.num_received = 0

    @property
    def topic(self) -> str:
        """Topic name after remapping."""
        return str(self._subscription.topic_name)

    @property
    def handle(self) -> Any:
        """What rclpy's wait sets take."""
        return self._subscription.handle

    @property
    def num_publishers(self) -> int:
        """Publishers that are matched now; those with an incompatible QoS do not count."""
        # Humble's rclpy cannot count matches, only publishers of the topic.
        if hasattr(self._subscription, "get_publisher_count"):
            return int(self._subscription.get_publisher_count())
        return int(self._node.count_publishers(self.topic))

    def describe_crowd(self) -> str:
        """Return which nodes publish the topic if more than one does, else ''; asks the graph."""
        if self.num_publishers < 2:
            return ""
        names = ", ".join(self.publisher_names())
        return f"{self.num_publishers} nodes publish {self.topic}: {names}"

    def publisher_names(self) -> list[str]:
        """Return which nodes publish the topic, sorted; asks the graph."""
        return sorted(
            f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            for info in self._node.get_publishers_info_by_topic(self.topic)
        )

    def take(self) -> MessageT | None:
        """Return the newest waiting message, dropping older ones, or None when none waits."""
        newest = None
        while (taken := self.take_next()) is not None:
            newest = taken
        return newest

    def take_all(self) -> list[MessageT]:
        """Return all waiting messages, the oldest first."""
        taken = []
        while (message := self.take_next()) is not None:
            taken.append(message)
        return taken

    def take_next(self) -> MessageT | None:
        """Return the oldest waiting message, or None when none waits."""
        taken = self.take_next_with_info()
        return None if taken is None else taken[0]

    def take_next_with_info(self) -> tuple[MessageT, dict[str, Any]] | None:
        """Return the oldest waiting message and what the middleware says about it.

        Returns:
            The message and a dict with ``source_timestamp`` and ``received_timestamp`` in ns since
            the epoch, or None when no message waits.
        """
        handle = self._subscription.handle
        with handle:
            taken = handle.take_message(self._subscription.msg_type, self._subscription.raw)
        if taken is None:
            return None
        self.num_received += 1
        return taken

    def destroy(self) -> None:
        """Unsubscribe; the object must not be used afterwards."""
        self._node.destroy_subscription(self._subscription)


def _ignore(message: object) -> None:
    """Stand in for the callback that no executor will call."""


class AbsoluteRate:
    """Pace a loop by absolute deadlines, so that errors never add up.

    A loop that overran its period is not followed by a burst: the deadlines that have passed are
    skipped and counted, the phase is kept.

    Args:
        period_s: Time between two deadlines, greater than 0.

    Attributes:
        num_missed: Deadlines that were skipped.
        deadline_ns: The last deadline, on ``time.monotonic_ns``.

    Raises:
        ValueError: The period is not positive.
    """

    def __init__(self, period_s: float) -> None:
        if not period_s > 0.0:
            raise ValueError(f"period_s must be greater than 0, got {period_s!r}.")
        self._period_ns = max(1, round(period_s * 1e9))
        self.num_missed = 0
        self.deadline_ns = time.monotonic_ns()

    def sleep(self) -> float:
        """Sleep until the next deadline and return how much later than it the caller woke, in s.

        When deadlines have already passed the call returns at once; the lateness counts from the
        first of them. It does, too, when the process was stopped in its sleep.
        """
        first_deadline_ns = self.deadline_ns + self._period_ns
        now_ns = time.monotonic_ns()
        if now_ns < first_deadline_ns:
            time.sleep((first_deadline_ns - now_ns) * 1e-9)
            now_ns = max(first_deadline_ns, time.monotonic_ns())
        missed = (now_ns - first_deadline_ns) // self._period_ns
        self.num_missed += missed
        self.deadline_ns = first_deadline_ns + missed * self._period_ns
        return (now_ns - first_deadline_ns) * 1e-9


class Periodic:
    """Decide in a faster loop when something slower is due, without drift and without bursts.

    Args:
        period_s: Time between two occasions, greater than 0; at least the period of the loop.
    """

    def __init__(self, period_s: float) -> None:
        self._period_ns = max(1, round(period_s * 1e9))
        # A loop of the same period must not miss an occasion for waking a little early.
        self._tolerance_ns = min(1_000_000, self._period_ns // 4)
        self._next_ns = time.monotonic_ns()

    def is_due(self) -> bool:
        """Return whether an occasion has come; missed ones are skipped."""
        now_ns = time.monotonic_ns()
        late_ns = now_ns - self._next_ns
        if late_ns < -self._tolerance_ns:
            return False
        # Less than a period late is caught up by the next turns; more starts a new phase.
        self._next_ns = (self._next_ns if late_ns < self._period_ns else now_ns) + self._period_ns
        return True
