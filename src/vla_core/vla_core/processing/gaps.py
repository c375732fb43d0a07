# SPDX-License-Identifier: MIT
"""Why there is no observation: which source, what is wrong with it, the story for a human."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class GapCause(enum.Enum):
    """What is wrong with a source of data."""

    NO_PUBLISHER = "no publisher"
    NOTHING_RECEIVED = "nothing received"
    SILENT = "fell silent"
    LATE = "late"
    FROZEN = "frozen"
    FUTURE = "future stamp"
    SKEWED = "too far from the reference camera"
    BROKEN = "broken message"


@dataclass(frozen=True, slots=True)
class Gap:
    """Why there is no observation.

    Attributes:
        source: The camera, the joint states, the further input, or the clock.
        cause: What is wrong; together with the source it tells two gaps apart.
        reason: The whole story for a human.
    """

    source: str
    cause: GapCause
    reason: str


class GapError(Exception):
    """Carries a gap out of the making of an observation; never leaves the buffer."""

    def __init__(self, gap: Gap) -> None:
        super().__init__(gap.reason)
        self.gap = gap
