# SPDX-License-Identifier: MIT
"""How often a node that ends is started again; one rule for `vla up` and for the launch system."""

from __future__ import annotations

import time

_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_STABLE_AFTER_S = 10.0


class Restarts:
    """Counts how often a node ended soon after its start; five times in a row is enough."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        self._num_quick_ends = 0

    def note_start(self) -> None:
        """Remember that the node was started now."""
        self._started_at = time.monotonic()

    def find_delay_s(self) -> float | None:
        """Return how long to wait before the node that has just ended is started again [s].

        Returns:
            A delay that grows with each quick end; None: the node keeps ending, give up.
        """
        if time.monotonic() - self._started_at > _STABLE_AFTER_S:
            self._num_quick_ends = 0
        if self._num_quick_ends == len(_DELAYS_S):
            return None
        self._num_quick_ends += 1
        return _DELAYS_S[self._num_quick_ends - 1]
