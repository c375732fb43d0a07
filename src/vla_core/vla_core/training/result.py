# SPDX-License-Identifier: MIT
"""How a training run ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        step: Steps that were trained.
        is_complete: False if it was interrupted.
        seconds: Time of all its parts, without the preparation of the data.
        loss: Smoothed loss at the end.
        validation: The last open-loop error, or None.
    """

    step: int
    is_complete: bool
    seconds: float
    loss: float
    validation: dict[str, Any] | None
