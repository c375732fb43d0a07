# SPDX-License-Identifier: MIT
"""How regularly the messages of a topic come: rate, drops, stalls, delay; in constant memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Intervals from 10 us to 1000 s fall into bins that are 2 % wide.
_SHORTEST_S = 1e-5
_BIN_WIDTH = math.log(1.02)
_NUM_BINS = math.ceil(math.log(1e8) / _BIN_WIDTH)
# An interval of so many periods is a stall, not some dropped messages.
_STALL_PERIODS = 5.0
_SHORTEST_STALL_S = 0.1


class TopicStatistics:
    """Counts what comes on one topic.

    Attributes:
        count: Messages.
        num_unordered: Messages with a stamp older than that of the one before.
        longest_s: Longest interval between two messages; 0 before the second.
        longest_at_ns: When that interval began, on the recorder's clock.
        longest_delay_s: Longest time from the stamp to the arrival; -infinity without stamps.
    """

    def __init__(self) -> None:
        self.count = 0
        self.num_unordered = 0
        self.longest_s = 0.0
        self.longest_at_ns = 0
        self.longest_delay_s = -math.inf
        self._last_ns = 0
        self._last_received_ns = 0
        self._bins = np.zeros(_NUM_BINS, np.int64)
        self._sums_s = np.zeros(_NUM_BINS)

    def add(self, received_ns: int, stamp_ns: int | None) -> None:
        """Count a message.

        Args:
            received_ns: When it was received.
            stamp_ns: Its stamp; None if its type has none.
        """
        at_ns = received_ns if stamp_ns is None else stamp_ns
        if stamp_ns is not None:
            self.longest_delay_s = max(self.longest_delay_s, (received_ns - stamp_ns) * 1e-9)
        if self.count and at_ns < self._last_ns:
            self.num_unordered += 1
        elif self.count:
            interval_s = (at_ns - self._last_ns) * 1e-9
            index = _bin(interval_s)
            self._bins[index] += 1
            self._sums_s[index] += interval_s
            if interval_s > self.longest_s:
                self.longest_s, self.longest_at_ns = interval_s, self._last_received_ns
        self.count += 1
        self._last_ns, self._last_received_ns = at_ns, received_ns

    @property
    def period_s(self) -> float:
        """Mean of the intervals around the median; NaN before the second message."""
        total = int(self._bins.sum())
        if not total:
            return math.nan
        index = int(np.searchsorted(self._bins.cumsum(), (total + 1) // 2))
        return float(self._sums_s[index] / self._bins[index])

    @property
    def rate_hz(self) -> float:
        """Messages per second as the sender means it, drops left out; NaN if unknown."""
        return 1.0 / self.period_s if self.period_s > 0.0 else math.nan

    @property
    def num_dropped(self) -> int:
        """Messages that are missing by the intervals, those of stalls left out."""
        if not self.period_s > 0.0:
            return 0
        intervals = _centres()
        missing = np.maximum(np.rint(intervals / self.period_s) - 1.0, 0.0)
        return int((missing * self._bins)[intervals <= self._stall_s].sum())

    @property
    def num_stalls(self) -> int:
        """Intervals so long that the sender itself must have paused."""
        if math.isnan(self.period_s):
            return 0
        return int(self._bins[_centres() > self._stall_s].sum())

    @property
    def _stall_s(self) -> float:
        return max(_STALL_PERIODS * self.period_s, _SHORTEST_STALL_S)


def _bin(interval_s: float) -> int:
    if interval_s <= _SHORTEST_S:
        return 0
    return min(int(math.log(interval_s / _SHORTEST_S) / _BIN_WIDTH), _NUM_BINS - 1)


def _centres() -> NDArray[np.float64]:
    centres: NDArray[np.float64] = _SHORTEST_S * np.exp((np.arange(_NUM_BINS) + 0.5) * _BIN_WIDTH)
    return centres
