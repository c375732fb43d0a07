# SPDX-License-Identifier: MIT
"""Read a rosbag2 recording without ROS: MCAP or SQLite, compressed or split.

The definitions of the messages are in the bag; for old SQLite bags, which have none, those of the
standard packages are used. Messages stream: memory does not grow with the bag. MCAP files with an
index are read by ``mcap_messages``, all others by rosbags.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from vla_core.dataset.lazy_message import LazyMessage
from vla_core.dataset.mcap_messages import McapFile, RawMessage, read_messages
from vla_core.errors import DatasetError

# The one in C is ten times quicker and not in every build of PyYAML.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MENDING = {
    ".mcap": "mcap recover FILE -o MENDED",
    ".db3": "sqlite3 FILE .recover | sqlite3 MENDED",
}


class Recording:
    """An open recording; use it in a `with` statement.

    Args:
        path: Folder of the recording, or one of its storage files.

    Raises:
        DatasetError: There is no recording.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._reader = AnyReader(
                _storages(self.path), default_typestore=get_typestore(Stores.LATEST)
            )
        # rosbags raises whatever its parsers trip over.
        except Exception as error:
            raise DatasetError(
                f"bag '{path}' cannot be opened: {error}. {_advice(self.path)}"
            ) from error

    def __enter__(self) -> Recording:
        """Open the recording."""
        try:
            self._reader.open()
            self._files = _indexed_files(self.path)
        except Exception as error:
            why = str(error).rstrip(".")
            raise DatasetError(
                f"bag '{self.path}' cannot be read: {why}. {_advice(self.path)}"
            ) from error
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the recording."""
        self._files = []
        self._reader.close()

    @property
    def duration_s(self) -> float:
        """Time between the first and the last message; 0 without one."""
        return self._reader.duration / 1e9 if self._reader.message_count else 0.0

    @property
    def span_ns(self) -> tuple[int, int]:
        """When the recorder received the first and the last message; zeros without one."""
        if not self._reader.message_count:
            return 0, 0
        # rosbags' end is that of a range.
        return self._reader.start_time, self._reader.end_time - 1

    @property
    def message_counts(self) -> dict[str, int]:
        """Number of messages by absolute topic."""
        counts = {topic: info.msgcount for topic, info in self._reader.topics.items()}
        return dict(sorted(counts.items()))

    @property
    def message_types(self) -> dict[str, str]:
        """Type by absolute topic, such as 'sensor_msgs/msg/Image'; '' where it changes."""
        types = {topic: info.msgtype or "" for topic, info in self._reader.topics.items()}
        return dict(sorted(types.items()))

    @property
    def notes(self) -> dict[str, Any]:
        """What recorder_node noted about an episode: instruction, success, lost messages."""
        storage: Any = self._reader.readers[0].storage  # type: ignore[union-attr]
        text = (storage.metadata.custom or {}).get("vla_ros")
        return dict(json.loads(text)) if text else {}

    def topic(self, name: str) -> str:
        """Find the one topic with a relative name, in whatever namespace it was recorded.

        Args:
            name: Relative topic such as 'front_camera/image_raw', or an absolute one.

        Returns:
            The absolute topic.

        Raises:
            DatasetError: No topic, or more than one, has the name.
        """
        found = self.find_topics(name)
        return self._only(found, f"topic '{name}'")

    def find_topics(self, name: str) -> list[str]:
        """Return the absolute topics with a name, relative to any namespace."""
        if name in self._reader.topics:
            return [name]
        if name.startswith("/"):
            return []
        return [topic for topic in self._reader.topics if topic.endswith(f"/{name}")]

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

        Raises:
            DatasetError: The bag is damaged.
        """
        for raw in self._raw(topics, start_ns, stop_ns):
            yield raw.topic, self._decode(raw)

    def lazy_messages(self, *topics: str) -> Iterator[tuple[str, int, LazyMessage]]:
        """Iterate over messages of which only those that are used are decoded.

        Args:
            topics: Absolute topics to read.

        Yields:
            The absolute topic, the time at which the recorder received the message, in ns, and
            the message.

        Raises:
            DatasetError: The bag is damaged.
        """
        stamped: dict[str, bool] = {}
        for raw in self._raw(topics):
            if raw.kind not in stamped:
                stamped[raw.kind] = self._begins_with_header(raw.kind)
            yield raw.topic, raw.received_ns, LazyMessage(raw, self._decode, stamped[raw.kind])

    def receive_times_ns(self, topic: str) -> NDArray[np.int64]:
        """Return when the recorder received each message of an absolute topic, int64 [M]."""
        return np.array([raw.received_ns for raw in self._raw([topic])], dtype=np.int64)

    def _raw(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[RawMessage]:
        if self._files:
            messages = read_messages(self._files, topics, start_ns, stop_ns)
        else:
            messages = self._scanned(topics, start_ns, stop_ns)
        last: RawMessage | None = None
        while True:
            try:
                found = next(messages, None)
            except Exception as error:
                raise DatasetError(
                    f"bag '{self.path}' cannot be read after {_place(last)}: {error}. "
                    f"{_advice(self.path)}"
                ) from error
            if found is None:
                return
            yield found
            last = found

    def _scanned(
        self, topics: Collection[str], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[RawMessage]:
        connections = [c for c in self._reader.connections if c.topic in topics]
        if not connections:  # which would mean all to rosbags
            return
        for connection, received_ns, data in self._reader.messages(connections, start_ns, stop_ns):
            kind = connection.msgtype
            yield RawMessage(received_ns, connection.topic, kind, memoryview(data), _believe)

    def _decode(self, raw: RawMessage) -> Any:
        """Decode a message, whatever follows it.

        rclpy.serialization.serialize_message, with which scripts write bags, leaves bytes behind
        the message that rosbags' own method takes for damage.
        """
        raw.check()
        definition = self._reader.typestore.get_msgdef(raw.kind)
        is_little = raw.data[1] & 1
        decode = definition.deserialize_cdr_le if is_little else definition.deserialize_cdr_be
        message, _ = decode(raw.data[4:], 0, definition.cls, self._reader.typestore)
        return message

    def _begins_with_header(self, kind: str) -> bool:
        fields = self._reader.typestore.fielddefs[kind][1]
        return bool(fields) and fields[0][0] == "header"

    def _only(self, found: list[str], wanted: str) -> str:
        if len(found) == 1:
            return found[0]
        if found:
            raise DatasetError(f"{self.path} has more than one {wanted}: {', '.join(found)}.")
        known = ", ".join(sorted(self._reader.topics)) or "none"
        raise DatasetError(f"{self.path} has no {wanted}; recorded topics: {known}.")


def _storages(path: Path) -> list[Path]:
    """Return what rosbags is to open: the folder, or its files where metadata.yaml is missing.

    Raises:
        FileNotFoundError: There is nothing to open.
    """
    if not path.is_dir() or (path / "metadata.yaml").is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in _MENDING)
    if not files:
        raise FileNotFoundError(
            f"the folder holds neither metadata.yaml nor a {' or '.join(_MENDING)} file"
        )
    return files


def _indexed_files(path: Path) -> list[McapFile]:
    """Return the MCAP files of a recording if all can be read by their index, else nothing.

    Raises:
        OSError: A file cannot be opened.
        ValueError: A file is damaged.
    """
    paths = _storages(path)
    if path in paths and path.is_dir():
        text = (path / "metadata.yaml").read_text(encoding="utf-8")
        information = yaml.load(text, _SafeLoader)["rosbag2_bagfile_information"]
        if (information.get("compression_mode") or "none").lower() != "none":
            return []
        paths = [path / PurePath(name).name for name in information["relative_file_paths"]]
    if any(file.suffix != ".mcap" for file in paths):
        return []
    files = [McapFile(file) for file in paths]
    return files if all(file.chunks for file in files) else []


def _advice(path: Path) -> str:
    """Say how to mend a recording, by the kind of its storage if that is known."""
    files = [path] if path.is_file() else path.glob("*")
    kinds = {file.suffix for file in files} & _MENDING.keys() or _MENDING.keys()
    ways = " or ".join(f"`{_MENDING[kind]}`" for kind in sorted(kinds, reverse=True))
    return f"It is no bag, or was cut off or damaged; {ways} saves what it still holds."


def _place(last: RawMessage | None) -> str:
    if last is None:
        return "its beginning"
    return f"a message of {last.topic} received at {last.received_ns / 1e9:.3f} s"


def _believe() -> None:
    """Check nothing: what rosbags returns it has checked itself."""
