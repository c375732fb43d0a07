# SPDX-License-Identifier: MIT
"""Receive topics whose types and publishers are found in the graph, and count what is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.message_types import find_message_type
from vla_ros.polled_subscription import PolledSubscription


@dataclass
class RecordedTopic:
    """One topic that is received.

    Attributes:
        subscription: Its subscription, of serialised messages.
        type_name: ``package/msg/Type``.
        profile: Profile of the subscription.
        has_one_publisher: Whether gaps in the numbers of messages mean losses.
        latched: The last message of a latched topic, for bags that begin later.
    """

    subscription: PolledSubscription[bytes]
    type_name: str
    profile: QoSProfile
    has_one_publisher: bool = False
    latched: bytes | None = None
    _last_number: int | None = None

    @property
    def name(self) -> str:
        """Absolute topic name."""
        return self.subscription.topic

    def count_lost(self, number: int | None) -> int:
        """Return how many messages are missing between the last one and that of this number."""
        if number is None or not self.has_one_publisher:
            self._last_number = None
            return 0
        last, self._last_number = self._last_number, number
        return 0 if last is None else max(0, number - last - 1)


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One message, serialised.

    Attributes:
        topic: Where it was received.
        received_ns: When.
        data: The serialised message.
        num_lost: How many were lost before it.
    """

    topic: RecordedTopic
    received_ns: int
    data: bytes
    num_lost: int


class RecordedTopics:
    """The subscriptions of a recorder.

    Args:
        node: Node that subscribes.
        entries: ``'name'`` finds the type in the graph, ``'name package/msg/Type'`` subscribes at
            once.
        depth: Messages per topic that may wait.

    Raises:
        ConfigError: A message type is not installed.
    """

    def __init__(self, node: Node, entries: Sequence[str], depth: int) -> None:
        self._node = node
        self._depth = depth
        self._topics: dict[str, RecordedTopic] = {}
        self.untyped: list[str] = []
        for topic, type_name in map(_split, entries):
            if type_name:
                self._subscribe(topic, type_name)
            else:
                self.untyped.append(topic)

    def __iter__(self) -> Iterator[RecordedTopic]:
        """Yield the topics that are received."""
        return iter(list(self._topics.values()))

    def take(self) -> Iterator[ReceivedMessage]:
        """Yield the waiting messages, topic by topic."""
        for topic in self:
            yield from self._take(topic)

    def discover(self) -> Iterator[ReceivedMessage]:
        """Find the types of topics that were given without, and follow the publishers' QoS.

        Yields:
            What still waited in a subscription that was replaced.
        """
        if self.untyped:
            known = dict(self._node.get_topic_names_and_types())
            for name in list(self.untyped):
                types = known.get(self._node.resolve_topic_name(name))
                if types:
                    self.untyped.remove(name)
                    self._subscribe(name, types[0])
        for name, topic in self._topics.items():
            publishers = self.publisher_profiles(name)
            topic.has_one_publisher = len(publishers) == 1
            profile = _matching_profile(publishers, self._depth)
            if publishers and profile != topic.profile:
                yield from self._take(topic)
                topic.subscription.destroy()
                topic.subscription = self._create_subscription(name, topic.type_name, profile)
                topic.profile = profile

    def destroy(self) -> None:
        """Unsubscribe from everything."""
        for topic in self:
            topic.subscription.destroy()
        self._topics.clear()

    def publisher_profiles(self, topic: str) -> list[QoSProfile]:
        """Return the profile of each publisher of a topic."""
        publishers = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic))
        return [publisher.qos_profile for publisher in publishers]

    def _take(self, topic: RecordedTopic) -> Iterator[ReceivedMessage]:
        for _ in range(self._depth):
            taken = topic.subscription.take_next_with_info()
            if taken is None:
                return
            data, info = taken
            received_ns = info["received_timestamp"] or self._node.get_clock().now().nanoseconds
            if topic.profile.durability == DurabilityPolicy.TRANSIENT_LOCAL:
                topic.latched = data
            num_lost = topic.count_lost(info.get("publication_sequence_number"))
            yield ReceivedMessage(topic, received_ns, data, num_lost)

    def _subscribe(self, name: str, type_name: str) -> None:
        publishers = self.publisher_profiles(name)
        profile = _matching_profile(publishers, self._depth)
        self._topics[name] = RecordedTopic(
            subscription=self._create_subscription(name, type_name, profile),
            type_name=type_name,
            profile=profile,
            has_one_publisher=len(publishers) == 1,
        )

    def _create_subscription(
        self, name: str, type_name: str, profile: QoSProfile
    ) -> PolledSubscription[bytes]:
        return PolledSubscription(
            self._node, find_message_type(type_name), name, profile, raw=True
        )


def require_types(entries: Sequence[str]) -> None:
    """Look for the message types of entries as `RecordedTopics` takes them.

    Raises:
        ConfigError: A message type is not installed.
    """
    for _, type_name in map(_split, entries):
        if type_name:
            find_message_type(type_name)


def _split(entry: str) -> tuple[str, str]:
    """Return topic and type of an entry, the type empty where it has none."""
    topic, _, type_name = entry.strip().partition(" ")
    return topic, type_name.strip()


def _matching_profile(publishers: list[QoSProfile], depth: int) -> QoSProfile:
    """Return the strictest profile that receives from all publishers."""
    is_reliable = all(p.reliability == ReliabilityPolicy.RELIABLE for p in publishers)
    is_latched = bool(publishers) and all(
        p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in publishers
    )
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=(DurabilityPolicy.TRANSIENT_LOCAL if is_latched else DurabilityPolicy.VOLATILE),
    )
