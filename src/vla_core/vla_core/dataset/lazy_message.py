# SPDX-License-Identifier: MIT
"""A message of a bag that is decoded when a field is asked for, and never if none is.

Most frames and joint states of a recording are passed over: they are looked for by their stamp,
which lies at a fixed place of the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from vla_core.dataset.mcap_messages import RawMessage
from vla_core.errors import MessageError

# A stamp follows the four bytes that say in which byte order the message is (CDR, DDS-XTypes 7.4).
_STAMP = {0: struct.Struct(">iI"), 1: struct.Struct("<iI")}
_STAMP_OFFSET = 4


class _Time(NamedTuple):
    sec: int
    nanosec: int


class _Header(NamedTuple):
    stamp: _Time


class LazyMessage:
    """Serialised bytes that have the fields of their message.

    Args:
        raw: The message as it was recorded.
        decode: Decodes it.
        has_header: Whether its type begins with a std_msgs/Header.
    """

    __slots__ = ("_decode", "_decoded", "_raw", "header", "kind")

    def __init__(
        self, raw: RawMessage, decode: Callable[[RawMessage], Any], has_header: bool
    ) -> None:
        self.kind = raw.kind
        self._raw = raw
        self._decode = decode
        self._decoded: Any = None
        if has_header:
            data = raw.data
            layout = _STAMP[data[1] & 1] if len(data) > _STAMP_OFFSET + 7 else None
            stamp = layout.unpack_from(data, _STAMP_OFFSET) if layout else (0, 0)
            self.header = _Header(_Time(*stamp))

    @property
    def serialized(self) -> bytes:
        """The message in CDR.

        Raises:
            MessageError: Its part of the file is damaged.
        """
        try:
            self._raw.check()
        except ValueError as error:
            raise MessageError(f"a message of {self._raw.topic} is damaged: {error}.") from error
        return bytes(self._raw.data)

    def __getattr__(self, name: str) -> Any:
        """Return a field of the message.

        Raises:
            MessageError: The bytes are no message of this type.
            AttributeError: The type has no such field.
        """
        if name == "header" or name.startswith("__"):
            raise AttributeError(name)
        if self._decoded is None:
            try:
                self._decoded = self._decode(self._raw)
            # Damaged bytes end in whatever error the decoder meets first.
            except Exception as error:
                raise MessageError(
                    f"{len(self._raw.data)} bytes are no {self.kind}: {str(error) or 'cut off'}."
                ) from error
        return getattr(self._decoded, name)
