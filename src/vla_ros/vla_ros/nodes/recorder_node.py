# SPDX-License-Identifier: MIT
"""Record topics into a rosbag2 bag in MCAP format, without decoding a message.

Serialised messages are polled and written as they are, with the times at which they were received.
Where the middleware numbers the messages of a publisher, gaps are counted as lost.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from vla_core.errors import ConfigError, VLAError
from vla_ros.bag_writer import BagWriter
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.parameters import RecorderParameters, declare_parameters
from vla_ros.polled_subscription import AbsoluteRate, Periodic, PolledSubscription
from vla_ros.stop_signal import StopSignal


@dataclass
class _RecordedTopic:
    """One topic: its subscription, its handle in the bag from the first message on, its counts."""

    subscription: PolledSubscription[bytes]
    type_name: str
    profile: QoSProfile
    handle: Any = None
    num_written: int = 0
    num_lost: int = 0
    has_one_publisher: bool = False
    last_sequence: int | None = None

    def count_lost(self, sequence: int | None) -> None:
        """Count the messages between the last one's number and this one's."""
        if sequence is None or not self.has_one_publisher:
            self.last_sequence = None
            return
        if self.last_sequence is not None and sequence > self.last_sequence:
            self.num_lost += sequence - self.last_sequence - 1
        self.last_sequence = sequence


class RecorderNode(Node):
    """Writes every message of its topics into one bag.

    Raises:
        ConfigError: A parameter is wrong, the bag's folder exists, or a message type is not
            installed.
    """

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self.parameters = declare_parameters(self, RecorderParameters)
        self._topics: dict[str, _RecordedTopic] = {}
        self._untyped: list[str] = []
        for entry in self.parameters.topics:
            topic, _, type_name = entry.strip().partition(" ")
            if type_name:
                self._subscribe(topic, type_name.strip())
            else:
                self._untyped.append(topic)
        self._bag = BagWriter(Path(self.parameters.path), compress=self.parameters.compress)
        self._discovery_due = Periodic(self.parameters.discovery_period_s)
        self._flush_due = Periodic(self.parameters.flush_period_s)
        self.get_logger().info(
            f"recording {len(self._topics) + len(self._untyped)} topics to {self._bag.path}"
        )

    def tick(self) -> None:
        """Write the waiting messages; now and then look at the graph and flush the bag.

        Raises:
            OSError: The disk is full, or gone.
            MessageError: The definition of a message type is not installed.
        """
        if self._discovery_due.is_due():
            self._discover()
        self._write_waiting()
        if self._flush_due.is_due():
            self._bag.flush()

    def close(self) -> None:
        """Write what still waits, close the bag and report what it holds.

        Raises:
            OSError: The disk is full, or gone.
        """
        self._write_waiting()
        recorded = {entry.subscription.topic: entry for entry in self._topics.values()}
        lost = {topic: entry.num_lost for topic, entry in recorded.items() if entry.num_lost}
        self._bag.close({"lost_messages": lost})
        for topic, entry in recorded.items():
            self.get_logger().info(f"{topic}: {entry.num_written} messages")
            if entry.num_lost:
                self.get_logger().warning(
                    f"{topic}: {entry.num_lost} messages were lost before they could be written; "
                    "raise 'depth' or 'poll_rate_hz', or set FASTDDS_DEFAULT_PROFILES_FILE."
                )
        for topic in self._untyped:
            self.get_logger().warning(f"{topic}: nobody published it")

    def _write_waiting(self) -> None:
        for recorded in self._topics.values():
            for _ in range(self.parameters.depth):
                taken = recorded.subscription.take_next_with_info()
                if taken is None:
                    break
                message, info = taken
                if recorded.handle is None:
                    recorded.handle = self._add_to_bag(recorded)
                received_ns = info["received_timestamp"] or self.get_clock().now().nanoseconds
                self._bag.write(recorded.handle, received_ns, message)
                recorded.num_written += 1
                recorded.count_lost(info.get("publication_sequence_number"))

    def _add_to_bag(self, recorded: _RecordedTopic) -> Any:
        topic = recorded.subscription.topic
        return self._bag.add_topic(topic, recorded.type_name, self._publisher_profiles(topic))

    def _discover(self) -> None:
        """Find the types of topics that were given without, and follow the publishers' QoS."""
        if self._untyped:
            known = dict(self.get_topic_names_and_types())
            for topic in list(self._untyped):
                types = known.get(self.resolve_topic_name(topic))
                if types:
                    self._untyped.remove(topic)
                    self._subscribe(topic, types[0])
        for topic, recorded in self._topics.items():
            publishers = self._publisher_profiles(topic)
            recorded.has_one_publisher = len(publishers) == 1
            profile = _matching_profile(publishers, self.parameters.depth)
            if publishers and profile != recorded.profile:
                self._write_waiting()
                recorded.subscription.destroy()
                recorded.subscription = self._create_subscription(
                    topic, recorded.type_name, profile
                )
                recorded.profile = profile

    def _subscribe(self, topic: str, type_name: str) -> None:
        publishers = self._publisher_profiles(topic)
        profile = _matching_profile(publishers, self.parameters.depth)
        self._topics[topic] = _RecordedTopic(
            subscription=self._create_subscription(topic, type_name, profile),
            type_name=type_name,
            profile=profile,
            has_one_publisher=len(publishers) == 1,
        )

    def _create_subscription(
        self, topic: str, type_name: str, profile: QoSProfile
    ) -> PolledSubscription[bytes]:
        return PolledSubscription(self, _message_class(type_name), topic, profile, raw=True)

    def _publisher_profiles(self, topic: str) -> list[QoSProfile]:
        publishers = self.get_publishers_info_by_topic(self.resolve_topic_name(topic))
        return [publisher.qos_profile for publisher in publishers]


def _message_class(type_name: str) -> Any:
    package, _, name = type_name.replace("/msg/", "/").partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"topics: message type {type_name!r} is not installed; expected the form "
            "'package/msg/Type' of an installed package."
        ) from error


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


def main(args: list[str] | None = None) -> int:
    """Run recorder_node until SIGINT or SIGTERM."""
    with StopSignal(args) as stop:
        logger = get_logger("recorder_node")
        try:
            node = RecorderNode()
        except VLAError as error:
            logger.fatal(str(error))
            return EXIT_CONFIGURATION
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        services_due = Periodic(0.1)
        rate = AbsoluteRate(1.0 / node.parameters.poll_rate_hz)
        try:
            while not stop.is_set:
                node.tick()
                if services_due.is_due():
                    executor.spin_once(timeout_sec=0.0)
                rate.sleep()
            node.close()
        except (VLAError, OSError) as error:
            logger.fatal(f"recording to {node.parameters.path} ended: {error}")
            return 1
        finally:
            executor.shutdown()
            node.destroy_node()
    return 0


if __name__ == "__main__":
    sys.exit(main())
