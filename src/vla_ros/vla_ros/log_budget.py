# SPDX-License-Identifier: MIT
"""Keep what changes again and again from flooding a log."""

from __future__ import annotations

import time


class LogBudget:
    """Some lines at once, and then one per period.

    Args:
        burst: Lines that may come at once.
        period_s: Time after which there is another one.
    """

    def __init__(self, burst: int = 10, period_s: float = 5.0) -> None:
        self._burst = burst
        self._period_s = period_s
        self._num_left = float(burst)
        self._since_s = time.monotonic()

    def take(self) -> bool:
        """Return whether a line may be written, and count it if so."""
        now_s = time.monotonic()
        refill = (now_s - self._since_s) / self._period_s
        self._num_left, self._since_s = min(self._burst, self._num_left + refill), now_s
        if self._num_left < 1.0:
            return False
        self._num_left -= 1.0
        return True
