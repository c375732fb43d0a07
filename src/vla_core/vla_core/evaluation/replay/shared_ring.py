# SPDX-License-Identifier: MIT
"""Objects with large arrays on their way to another process, through memory that both see.

They are pickled, as all that `multiprocessing` sends, by one process of this program for another
that it started; what comes from a file or a network never is.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

_ALIGNMENT = 64


class Parcel(NamedTuple):
    """An object on its way.

    Attributes:
        pickled: All but its arrays.
        spans: Begin and length of every array in the shared memory, in bytes.
    """

    pickled: bytes
    spans: list[tuple[int, int]]


class SharedRing:
    """One end of the way; parcels are opened and given back in the order in which they are made.

    Args:
        memory: The shared memory, such as a `multiprocessing.RawArray`.
    """

    def __init__(self, memory: Any) -> None:
        self._memory = memoryview(memory).cast("B")
        self._taken: deque[tuple[int, int]] = deque()
        self._head = 0

    def pack(self, thing: object, wait: Callable[[], None]) -> Parcel:
        """Copy an object into the memory.

        Args:
            thing: The object. What is larger than the memory travels with the parcel.
            wait: Waits until `give_back` was called once more, for the oldest parcel.
        """
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
        arrays = [buffer.raw() for buffer in buffers]
        size = sum(_aligned(array.nbytes) for array in arrays)
        if size > len(self._memory):
            # Nobody may be busy with sending the other way while so much fills the pipe.
            while self._taken:
                wait()
            self._taken.append((0, 0))
            return Parcel(pickle.dumps(thing, protocol=5), [])
        begin = self._head if self._head + size <= len(self._memory) else 0
        self._head = begin + size
        while any(begin < end and start < self._head for start, end in self._taken):
            wait()
        self._taken.append((begin, self._head))
        spans = []
        for array in arrays:
            self._memory[begin : begin + array.nbytes] = array
            spans.append((begin, array.nbytes))
            begin += _aligned(array.nbytes)
        return Parcel(pickled, spans)

    def open(self, parcel: Parcel) -> Any:
        """Return the object; its arrays are valid until the parcel is given back."""
        arrays = [self._memory[begin : begin + length] for begin, length in parcel.spans]
        return pickle.loads(parcel.pickled, buffers=arrays)

    def give_back(self) -> None:
        """Note that nobody looks at the oldest parcel any more."""
        self._taken.popleft()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
