# SPDX-License-Identifier: MIT
"""Counts what went wrong by its cause: texts that differ in their figures only are of one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

_FIGURE = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")


class Causes:
    """How often each cause was heard, named by the first text that told of it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, text: str, count: int = 1) -> None:
        """Hear a text, for a human, so many times."""
        cause = _FIGURE.sub("#", text)
        self._examples.setdefault(cause, text)
        self._counts[cause] += count

    def update(self, counts: Mapping[str, int]) -> None:
        """Hear what another one has counted."""
        for text, count in counts.items():
            self.add(text, count)

    def counts(self, most: int | None = None) -> dict[str, int]:
        """Return the first text of each cause with its count, the most frequent first.

        Args:
            most: Causes to return; None: all.
        """
        found = self._counts.most_common(most)
        return {self._examples[cause]: count for cause, count in found}
