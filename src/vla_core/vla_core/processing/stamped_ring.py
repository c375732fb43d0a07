# SPDX-License-Identifier: MIT
"""What came within the last while, found by its stamp."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class StampedRing(Generic[ItemT]):
    """Keeps items in the order of their stamps and forgets the old ones.

    An item that is older than the newest by more than the span is no straggler: the sender's
    clock has jumped back, and what came before the jump is forgotten.

    Args:
        span_s: How much older than the newest an item may be.
        capacity: Largest number of items, whatever their stamps.
    """

    def __init__(self, span_s: float, capacity: int) -> None:
        self._span_ns = round(span_s * 1e9)
        self._capacity = capacity
        self._stamps: list[int] = []
        self._items: list[ItemT] = []

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._stamps)

    @property
    def newest_ns(self) -> int | None:
        """The newest stamp, None when there is no item."""
        return self._stamps[-1] if self._stamps else None

    def add(self, stamp_ns: int, item: ItemT) -> None:
        """Add an item; after those of the same stamp."""
        stamps, items = self._stamps, self._items
        if stamps and stamp_ns < stamps[-1] - self._span_ns:
            self.clear()
        if not stamps or stamp_ns >= stamps[-1]:
            stamps.append(stamp_ns)
            items.append(item)
        else:
            place = bisect_right(stamps, stamp_ns)
            stamps.insert(place, stamp_ns)
            items.insert(place, item)
        num_old = len(stamps) - self._capacity
        if stamps[0] < stamps[-1] - self._span_ns:
            num_old = max(num_old, bisect_left(stamps, stamps[-1] - self._span_ns))
        if num_old > 0:
            del stamps[:num_old], items[:num_old]

    def clear(self) -> None:
        """Forget all items."""
        self._stamps.clear()
        self._items.clear()

    def until(self, stamp_ns: int) -> Iterator[tuple[int, ItemT]]:
        """Yield what is not newer than a time, the newest first."""
        for index in range(bisect_right(self._stamps, stamp_ns) - 1, -1, -1):
            yield self._stamps[index], self._items[index]

    def since(self, stamp_ns: int) -> Iterator[tuple[int, ItemT]]:
        """Yield what is not older than a time, the oldest first."""
        for index in range(bisect_left(self._stamps, stamp_ns), len(self._stamps)):
            yield self._stamps[index], self._items[index]

    def newest_first(self) -> Iterator[tuple[int, ItemT]]:
        """Yield all items."""
        return zip(reversed(self._stamps), reversed(self._items), strict=True)

    def nearest(self, stamp_ns: int, oldest_ns: int = 0) -> tuple[int, ItemT] | None:
        """Return the item that is nearest to a time, the older of two; None when there is none.

        Args:
            stamp_ns: The time.
            oldest_ns: Items before this do not count.
        """
        before = next(self.until(stamp_ns), None)
        after = next(self.since(max(stamp_ns, oldest_ns)), None)
        if before is not None and before[0] < oldest_ns:
            before = None
        if before is None or after is None:
            return before or after
        return before if stamp_ns - before[0] <= after[0] - stamp_ns else after
