# SPDX-License-Identifier: MIT
"""One bag that is being written, with what is to be known about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.qos import QoSProfile

from vla_ros.bag_writer import BagWriter


@dataclass
class _Channel:
    handle: Any
    num_written: int = 0
    num_lost: int = 0


class Recording:
    """Writes serialised messages and counts them by topic.

    Args:
        path: Folder of the bag; it must not exist yet.
        compress: Whether chunks are compressed, with zstd.
        notes: What is known about the bag from the start; JSON values.

    Raises:
        ConfigError: The folder exists or cannot be created.
    """

    def __init__(self, path: Path, *, compress: bool, notes: dict[str, Any]) -> None:
        self._bag = BagWriter(path, compress=compress)
        self._notes = notes
        self._channels: dict[str, _Channel] = {}

    @property
    def path(self) -> Path:
        """Folder of the bag."""
        return self._bag.path

    @property
    def num_messages(self) -> int:
        """Messages that were written."""
        return sum(channel.num_written for channel in self._channels.values())

    @property
    def num_lost(self) -> int:
        """Messages that were lost before they could be written."""
        return sum(channel.num_lost for channel in self._channels.values())

    def has_topic(self, topic: str) -> bool:
        """Return whether a topic was added."""
        return topic in self._channels

    def add_topic(self, topic: str, type_name: str, qos_profiles: Sequence[QoSProfile]) -> None:
        """Make a topic known before its first message is written.

        Args:
            topic: Absolute topic name.
            type_name: ``package/msg/Type``.
            qos_profiles: Profiles of the publishers.

        Raises:
            MessageError: The definition of the type is not installed.
        """
        self._channels[topic] = _Channel(self._bag.add_topic(topic, type_name, qos_profiles))

    def write(self, topic: str, received_ns: int, message: bytes, num_lost: int = 0) -> None:
        """Add one serialised message.

        Args:
            topic: Absolute topic name, which was added.
            received_ns: When it was received.
            message: The serialised message.
            num_lost: How many were lost between the one before and this one; before the first
                one of the bag none counts.

        Raises:
            OSError: The disk is full, or gone.
        """
        channel = self._channels[topic]
        if channel.num_written:
            channel.num_lost += num_lost
        self._bag.write(channel.handle, received_ns, message)
        channel.num_written += 1

    def flush(self) -> None:
        """Hand all messages to the operating system.

        Raises:
            OSError: The disk is full, or gone.
        """
        self._bag.flush()

    def close(self, **notes: Any) -> None:
        """Write index and metadata.

        Args:
            **notes: What became known about the bag; JSON values.

        Raises:
            OSError: The disk is full, or gone.
        """
        self._bag.close({**self._notes, **notes, "lost_messages": self.lost_by_topic()})

    def written_by_topic(self) -> dict[str, int]:
        """Return the number of messages of each topic."""
        return {topic: channel.num_written for topic, channel in self._channels.items()}

    def lost_by_topic(self) -> dict[str, int]:
        """Return the number of lost messages of each topic that lost any."""
        counts = {topic: channel.num_lost for topic, channel in self._channels.items()}
        return {topic: count for topic, count in counts.items() if count}
