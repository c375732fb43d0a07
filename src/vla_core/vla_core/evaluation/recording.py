# SPDX-License-Identifier: MIT
"""Read a rosbag2 recording without ROS; the definitions of its messages are in the bag."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader, AnyReaderError

from vla_core.errors import DatasetError


class Recording:
    """An open recording; use it in a `with` statement.

    Args:
        path: Folder of the recording, with its metadata.yaml.

    Raises:
        DatasetError: The folder holds no complete recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "metadata.yaml").is_file():
            raise DatasetError(
                f"{path} holds no metadata.yaml: it is no recording, or its recorder was killed "
                "before it could close the file. Record again."
            )
        try:
            self._reader = AnyReader([path])
        except AnyReaderError as error:
            raise DatasetError(f"recording {path} cannot be opened: {error}.") from error

    def __enter__(self) -> Recording:
        """Open the recording."""
        try:
            self._reader.open()
        except AnyReaderError as error:
            raise DatasetError(f"recording {self.path} cannot be read: {error}.") from error
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the recording."""
        self._reader.close()

    @property
    def duration_s(self) -> float:
        """Time between the first and the last message; 0 without one."""
        return self._reader.duration / 1e9 if self._reader.message_count else 0.0

    @property
    def message_counts(self) -> dict[str, int]:
        """Number of messages by absolute topic."""
        counts = {topic: info.msgcount for topic, info in self._reader.topics.items()}
        return dict(sorted(counts.items()))

    def topic(self, name: str) -> str:
        """Find the one topic with a relative name, in whatever namespace it was recorded.

        Args:
            name: Relative topic such as 'front_camera/image_raw'.

        Returns:
            The absolute topic.

        Raises:
            DatasetError: No topic, or more than one, has the name.
        """
        topics = list(self._reader.topics)
        return self._only([t for t in topics if f"/{t}".endswith(f"/{name}")], f"topic '{name}'")

    def topic_of_type(self, message_type: str) -> str:
        """Find the one topic that carries a type such as 'vla_msgs/msg/ActionChunk'.

        Raises:
            DatasetError: No topic, or more than one, carries the type.
        """
        topics = [t for t, info in self._reader.topics.items() if info.msgtype == message_type]
        return self._only(topics, f"topic of type {message_type}")

    def messages(
        self, *topics: str, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, Any]]:
        """Iterate over messages in the order in which they were recorded.

        Args:
            topics: Absolute topics to read.
            start_ns: Leave out what was received before, on the recorder's clock.
            stop_ns: Leave out what was received at this time or later.

        Yields:
            The absolute topic and the message.
        """
        connections = [c for c in self._reader.connections if c.topic in topics]
        for connection, _, data in self._reader.messages(connections, start_ns, stop_ns):
            yield connection.topic, self._reader.deserialize(data, connection.msgtype)

    def receive_times_ns(self, topic: str) -> NDArray[np.int64]:
        """Return when the recorder received each message of an absolute topic, int64 [M]."""
        connections = [c for c in self._reader.connections if c.topic == topic]
        times = [time_ns for _, time_ns, _ in self._reader.messages(connections)]
        return np.array(times, dtype=np.int64)

    def _only(self, found: list[str], wanted: str) -> str:
        if len(found) == 1:
            return found[0]
        if found:
            raise DatasetError(f"{self.path} has more than one {wanted}: {', '.join(found)}.")
        known = ", ".join(sorted(self._reader.topics)) or "none"
        raise DatasetError(f"{self.path} has no {wanted}; recorded topics: {known}.")
