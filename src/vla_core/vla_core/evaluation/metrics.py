# SPDX-License-Identifier: MIT
"""Figures of an evaluation: success rates with their uncertainty, and distributions of samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from vla_core.errors import ConfigError


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bound a success probability from counted trials.

    Unlike the normal approximation, the interval stays within [0, 1] and keeps a width when every
    trial, or none, succeeded.

    Args:
        successes: Number of successful trials, 0 to `trials`.
        trials: Number of independent trials.
        confidence: Probability that the interval covers the true rate, in (0, 1).

    Returns:
        Lower and upper bound; (0, 1) without a trial.

    Raises:
        ConfigError: If the counts or the confidence are impossible.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927).
    """
    if trials < 0 or not 0 <= successes <= trials:
        raise ConfigError(f"successes must lie between 0 and trials, got {successes} of {trials}.")
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence must lie in (0, 1), got {confidence!r}; 0.95 is customary.")
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    scale = 1 + z**2 / trials
    center = (rate + z**2 / (2 * trials)) / scale
    half_width = z * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2)) / scale
    # At the ends the bound is exactly 0 or 1; rounding must not move it.
    lower = 0.0 if successes == 0 else max(0.0, center - half_width)
    upper = 1.0 if successes == trials else min(1.0, center + half_width)
    return lower, upper


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRate:
    """Successes among independent trials, with the Wilson interval of the rate.

    successes: Number of successful trials.
    trials: Number of trials.
    confidence: Coverage of the interval, in (0, 1).
    """

    successes: int
    trials: int
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Refuse impossible counts."""
        wilson_interval(self.successes, self.trials, self.confidence)

    @classmethod
    def from_outcomes(cls, outcomes: Iterable[bool], confidence: float = 0.95) -> SuccessRate:
        """Count outcomes."""
        counted = [bool(outcome) for outcome in outcomes]
        return cls(successes=sum(counted), trials=len(counted), confidence=confidence)

    @property
    def rate(self) -> float:
        """Share of successes; NaN without a trial."""
        return self.successes / self.trials if self.trials else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper Wilson bound."""
        return wilson_interval(self.successes, self.trials, self.confidence)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, the rate and its bounds as JSON values."""
        lower, upper = self.interval
        return {
            **asdict(self),
            "rate": self.rate if self.trials else None,
            "lower": lower,
            "upper": upper,
        }

    def __str__(self) -> str:
        """Return the sentence that a terminal or a report shows."""
        if not self.trials:
            return "no trial"
        lower, upper = self.interval
        return (
            f"{self.successes} of {self.trials} ({self.rate:.0%}, "
            f"{self.confidence:.0%} interval {lower:.0%} to {upper:.0%})"
        )


def intervals_overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Tell whether two closed intervals (lower, upper) share a point."""
    return first[0] <= second[1] and second[0] <= first[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Count, mean, extremes and percentiles of samples, all in the unit of the samples."""

    count: int
    mean: float
    minimum: float
    p50: float
    p95: float
    p99: float
    maximum: float

    @classmethod
    def from_samples(cls, samples: Iterable[float] | np.ndarray) -> Distribution | None:
        """Summarise finite samples, or return None where there is none."""
        values = np.asarray(
            samples if isinstance(samples, np.ndarray) else list(samples), dtype=np.float64
        ).ravel()
        values = values[np.isfinite(values)]
        if not values.size:
            return None
        p50, p95, p99 = np.percentile(values, (50, 95, 99))
        return cls(
            count=int(values.size),
            mean=float(values.mean()),
            minimum=float(values.min()),
            p50=float(p50),
            p95=float(p95),
            p99=float(p99),
            maximum=float(values.max()),
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Distribution:
        """Rebuild what `to_dict` returned."""
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)
