# SPDX-License-Identifier: MIT
"""Where the arm was last measured to be, and whether that may still be relied on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class MeasuredState:
    """The newest joint state.

    Args:
        max_age_s: Age after which it must not be used.

    Attributes:
        positions: Measured positions, rad or m, [A]; None before the first.
        stamp_ns: When they were measured.
    """

    def __init__(self, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._refusal = ""
        self._until_ns = 0
        self.positions: NDArray[np.float64] | None = None
        self.stamp_ns = 0

    def put(self, positions: NDArray[np.float64], stamp_ns: int) -> None:
        """Take the newest positions, finite, [A], and the time of their measurement."""
        if stamp_ns > self._until_ns:
            self.positions, self.stamp_ns, self._refusal = positions, stamp_ns, ""

    def refuse(self, reason: str) -> None:
        """Note that a joint state could not be used; the last good one goes on getting older."""
        self._refusal = reason

    def forget(self, reason: str, until_ns: int | None = None) -> None:
        """Begin anew, as before the first joint state; the reason stands until one comes.

        Args:
            reason: Why, for a human.
            until_ns: Time up to which measurements do not count; None: those that were taken.
        """
        self._until_ns = until_ns or 0
        if until_ns is None or self.stamp_ns <= until_ns:
            self.positions, self._refusal = None, reason

    def age_s(self, now_ns: int) -> float:
        """Return the age of the positions, infinite before the first."""
        return math.inf if self.positions is None else (now_ns - self.stamp_ns) * 1e-9

    def find_fault(self, now_ns: int) -> str:
        """Return why the positions must not be relied on; empty if they may."""
        if self.positions is None:
            return self._refusal or "no joint state was received yet"
        age_s = self.age_s(now_ns)
        if age_s > self._max_age_s:
            late = (
                f"the joint state is {age_s:.3f} s old, at most {self._max_age_s:g} s is allowed"
            )
            return f"{late}; {self._refusal}" if self._refusal else late
        if age_s < -self._max_age_s:
            # It would pass for young long after the robot has fallen silent.
            return (
                f"the joint state is stamped {-age_s:.3f} s in the future; synchronise the "
                "clocks of the machines"
            )
        return ""
