# SPDX-License-Identifier: MIT
"""Which instruction, and which activation of the policy, counts."""

from __future__ import annotations


class NewestEpoch:
    """The newest epoch: a number that counts instructions and activations of the policy.

    A lower one than before is late, unless nothing was heard of the higher one for as long as a
    chunk may be old: then the policy was restarted and counts anew.

    Args:
        max_age_s: How old a chunk may be.

    Attributes:
        number: The newest epoch; -1 before the first.
    """

    def __init__(self, max_age_s: float) -> None:
        self._max_age_ns = max_age_s * 1e9
        self._heard_ns = 0
        self.number = -1

    def is_late(self, number: int, now_ns: int) -> bool:
        """Return whether a number heard now is of an epoch that is over."""
        return number < self.number and now_ns - self._heard_ns <= self._max_age_ns

    def hear(self, number: int, now_ns: int) -> None:
        """Note that a number that is not late was heard now."""
        self.number, self._heard_ns = number, now_ns

    def set_back_clock(self) -> None:
        """Note that the clock was set back: the time of hearing belongs to a time to come."""
        self._heard_ns = 0
