# SPDX-License-Identifier: MIT
"""Messages of indexed MCAP files as views: what nobody looks at is neither copied nor read.

A raw frame fills most of a chunk, and most frames are passed over. The files are mapped into
memory, so that of such a chunk only the stamps come from the disk; compressed chunks are unpacked
ahead, in threads. Layout: https://mcap.dev/spec.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import zstandard
from rosbags.rosbag2.storage_mcap import DECOMPRESSORS

MAGIC = b"\x89MCAP0\r\n"

_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK_INDEX = 0x03, 0x04, 0x05, 0x08
_RECORD = struct.Struct("<BQ")
_FOOTER = struct.Struct("<BQQQI")
_MESSAGE_START = struct.Struct("<HIQQ")
_CHUNK_START = struct.Struct("<BQQQQII")
_CHUNKS_AHEAD = 4
_CHUNKS_BEHIND = 64
_NUM_THREADS = 2
_SMALL_BYTES = 4096


class RawMessage(NamedTuple):
    """A message as it was recorded.

    Attributes:
        received_ns: When the recorder received it.
        topic: Its absolute topic.
        kind: Its type, such as 'sensor_msgs/msg/Image'.
        data: The message in CDR, a view.
        check: To be called before the message is believed; raises a ValueError if its chunk was
            damaged.
    """

    received_ns: int
    topic: str
    kind: str
    data: memoryview
    check: Callable[[], None]


class _ChunkIndex(NamedTuple):
    start_ns: int
    end_ns: int
    offset: int
    length: int
    channels: frozenset[int]


class _Check:
    """Compares the checksum of a chunk with its bytes, once and when they are believed.

    Args:
        data: The bytes, as long as they are not compared.
        checksum: What it has to be; zero means that the writer left it out.
    """

    def __init__(self, data: memoryview, checksum: int) -> None:
        self._data: memoryview | None = data if checksum else None
        self._checksum = checksum
        self._fits = True

    def compare(self) -> None:
        """Look at the bytes, which are then let go."""
        if self._data is not None:
            self._fits = zlib.crc32(self._data) == self._checksum
            self._data = None

    def __call__(self) -> None:
        """Raise a ValueError if the bytes are not those that were written."""
        self.compare()
        if not self._fits:
            raise ValueError("the checksum of its MCAP chunk does not fit: the file is damaged")


class _Records(NamedTuple):
    """The records of a chunk, unpacked."""

    data: memoryview
    check: _Check


class McapFile:
    """The index of one MCAP file.

    Args:
        path: The file.

    Attributes:
        channels: Topic and type by the number of a channel.
        chunks: Where the chunks are; empty without an index, which only a scan of the whole file
            can replace.

    Raises:
        ValueError: The file is cut off or no MCAP file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._data = memoryview(self._map)
        if self._data[: len(MAGIC)] != MAGIC or self._data[-len(MAGIC) :] != MAGIC:
            raise ValueError("it does not begin and end as an MCAP file")
        footer = len(self._data) - len(MAGIC) - _FOOTER.size
        start = _FOOTER.unpack_from(self._data, footer)[2]
        self.channels: dict[int, tuple[str, str]] = {}
        self.chunks: list[_ChunkIndex] = []
        kinds = {0: ""}
        for code, record in _split(self._data[start:footer] if start else self._data[:0]):
            if code == _SCHEMA:
                kinds[int.from_bytes(record[:2], "little")] = _text(record, 2)
            elif code == _CHANNEL:
                number, schema = struct.unpack_from("<HH", record)
                self.channels[number] = (_text(record, 4), kinds[schema])
            elif code == _CHUNK_INDEX:
                start_ns, end_ns, at, length, size = struct.unpack_from("<QQQQI", record)
                indexed = struct.iter_unpack("<HQ", record[36 : 36 + size])
                numbers = frozenset(number for number, _ in indexed)
                self.chunks.append(_ChunkIndex(start_ns, end_ns, at, length, numbers))
        if any(not chunk.channels <= self.channels.keys() for chunk in self.chunks):
            self.chunks.clear()

    def is_compressed(self, chunk: _ChunkIndex) -> bool:
        """Say whether a chunk has to be unpacked."""
        return bool(_text(self._data, chunk.offset + _CHUNK_START.size - 4))

    def forget(self, chunk: _ChunkIndex) -> None:
        """Give the memory of a chunk back; who still looks at it reads it from the file again."""
        begin = chunk.offset // mmap.PAGESIZE * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, begin, chunk.offset + chunk.length - begin)

    def unpack(self, chunk: _ChunkIndex) -> _Records:
        """Return the records of a chunk.

        Raises:
            ValueError: It is compressed in an unknown way, or damaged.
        """
        *_, size, checksum, length = _CHUNK_START.unpack_from(self._data, chunk.offset)
        begin = chunk.offset + _CHUNK_START.size
        compression = str(self._data[begin : begin + length], "utf-8")
        begin += length + 8
        (packed,) = struct.unpack_from("<Q", self._data, begin - 8)
        data = self._data[begin : begin + packed]
        if compression:
            data = memoryview(_unpack(data, size, compression))
        if len(data) != size:
            raise ValueError(f"a chunk has {len(data)} bytes, {size} are expected")
        check = _Check(data, checksum)
        if compression:
            check.compare()
        return _Records(data, check)


def read_messages(
    files: Sequence[McapFile],
    topics: Collection[str],
    start_ns: int | None = None,
    stop_ns: int | None = None,
) -> Iterator[RawMessage]:
    """Iterate over the messages of several files in the order in which they were received.

    Args:
        files: Files with an index.
        topics: Absolute topics to read.
        start_ns: Leave out what was received before.
        stop_ns: Leave out what was received at this time or later.

    Raises:
        ValueError: A chunk is damaged.
    """
    first = 0 if start_ns is None else start_ns
    last = (1 << 64) if stop_ns is None else stop_ns
    wanted = {
        id(file): {channel for channel, (topic, _) in file.channels.items() if topic in topics}
        for file in files
    }
    places = [
        (file, chunk)
        for file in files
        for chunk in file.chunks
        if chunk.channels & wanted[id(file)] and chunk.start_ns < last and chunk.end_ns >= first
    ]
    places.sort(key=lambda place: place[1].start_ns)
    # Messages received at the same time keep the order in which they were written.
    pending: list[tuple[int, int, RawMessage]] = []
    count = 0
    with ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="unpack") as threads:
        for number, (records, next_ns) in enumerate(_unpacked(places, threads)):
            file = places[number][0]
            for code, record in _split(records.data):
                if code != _MESSAGE:
                    continue
                channel, _, received_ns, _ = _MESSAGE_START.unpack_from(record)
                if channel in wanted[id(file)] and first <= received_ns < last:
                    data = record[_MESSAGE_START.size :]
                    if len(data) < _SMALL_BYTES:
                        # Who keeps a joint state must not keep the frames around it.
                        data = memoryview(bytes(data))
                    message = RawMessage(received_ns, *file.channels[channel], data, records.check)
                    pending.append((received_ns, count, message))
                    count += 1
            pending.sort()
            ready = bisect_left(pending, (next_ns,))
            for _, _, message in pending[:ready]:
                yield message
            del pending[:ready]
            if number >= _CHUNKS_BEHIND:
                passed_file, passed = places[number - _CHUNKS_BEHIND]
                passed_file.forget(passed)


def _unpacked(
    places: Sequence[tuple[McapFile, _ChunkIndex]], threads: ThreadPoolExecutor
) -> Iterator[tuple[_Records, float]]:
    """Yield the records of every chunk and when the next one begins, some unpacked ahead."""
    ahead: deque[Future[_Records] | None] = deque()
    for number, (file, chunk) in enumerate(places):
        while len(ahead) <= _CHUNKS_AHEAD and number + len(ahead) < len(places):
            later_file, later = places[number + len(ahead)]
            is_packed = later_file.is_compressed(later)
            ahead.append(threads.submit(later_file.unpack, later) if is_packed else None)
        unpacking = ahead.popleft()
        is_last = number + 1 == len(places)
        next_ns = float("inf") if is_last else places[number + 1][1].start_ns
        yield file.unpack(chunk) if unpacking is None else unpacking.result(), next_ns


def _unpack(data: memoryview, size: int, compression: str) -> bytes:
    """Return what was compressed.

    Raises:
        ValueError: It is compressed in an unknown way.
    """
    if compression == "zstd":
        # rosbags does not say how large the result is: to let it grow takes twice the time.
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    if compression not in DECOMPRESSORS:
        raise ValueError(f"its chunks are compressed by unknown '{compression}'")
    return DECOMPRESSORS[compression](data, size)  # type: ignore[arg-type]


def _split(records: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield code and content of every record.

    Raises:
        ValueError: A record is longer than what is there.
    """
    at = 0
    while at < len(records):
        code, length = _RECORD.unpack_from(records, at)
        at += _RECORD.size
        if at + length > len(records):
            raise ValueError(f"a record of {length} bytes is cut off")
        yield code, records[at : at + length]
        at += length


def _text(data: memoryview, at: int) -> str:
    (length,) = struct.unpack_from("<I", data, at)
    return str(data[at + 4 : at + 4 + length], "utf-8")
