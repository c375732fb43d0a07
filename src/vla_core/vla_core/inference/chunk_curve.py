# SPDX-License-Identifier: MIT
"""One action chunk as a smooth curve over time, which ends ever slower if it is told to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

INTERPOLATIONS = ("cubic", "linear")


class ChunkCurve:
    """One chunk as a curve through its targets.

    Args:
        stamp_ns: Time at which the curve starts.
        dt_s: Time between two targets.
        targets: Joint positions, [K, A]; target k is reached at ``stamp_ns + (k + 1) * dt_s``.
        start: Positions at ``stamp_ns``, [A].
        interpolation: ``'cubic'`` has a continuous velocity and never leaves the range between
            two neighbouring targets (Fritsch and Carlson, 1980); ``'linear'`` has straight lines.
        max_age_s: Age at which the curve must not be followed any more.
        slow_s: The last so many seconds before the end of the targets, or before ``max_age_s``,
            take twice as long, ever slower; 0: none. At most half of the curve.
    """

    def __init__(
        self,
        stamp_ns: int,
        dt_s: float,
        targets: NDArray[np.float64],
        start: NDArray[np.float64],
        *,
        interpolation: str = "cubic",
        max_age_s: float = math.inf,
        slow_s: float = 0.0,
    ) -> None:
        self.stamp_ns = stamp_ns
        self._dt_s = dt_s
        self.length_s = min(len(targets) * dt_s, max_age_s)
        self._slow_s = min(slow_s, 0.5 * self.length_s)
        self._slow_from_s = self.length_s - self._slow_s
        knots = np.vstack((start, targets))
        steps = np.diff(knots, axis=0)  # [K, A]
        if interpolation == "linear":
            curves = [knots[:-1], steps, np.zeros_like(steps), np.zeros_like(steps)]
        else:
            slopes = _monotone_slopes(steps)
            before, after = slopes[:-1], slopes[1:]
            curves = [
                knots[:-1],
                before,
                3.0 * steps - 2.0 * before - after,
                before + after - 2.0 * steps,
            ]
        self._coefficients = np.stack(curves, axis=1)  # [K, 4, A], rising powers
        rest = np.zeros_like(knots[0])
        self._start = np.stack((knots[0], rest, rest, rest))
        self._end = np.stack((knots[-1], rest, rest, rest))

    def pace(self, t_ns: int) -> float:
        """Return how fast the curve's time runs, 1 normally and 0 once it has come to rest."""
        return self._own_time(t_ns)[1]

    def sample(self, t_ns: int) -> NDArray[np.float64]:
        """Return positions and velocities at a time, at rest before the start and past the end.

        Returns:
            In rad or m and per second, [2, A].
        """
        return weighted_mean([(self, 1.0, 0.0)], t_ns)

    def _piece(self, t_ns: int) -> tuple[NDArray[np.float64], float, float]:
        """Return the cubic that is due at a time, how far into it, and its rate of change.

        Returns:
            Coefficients of rising powers, [4, A], the argument, and its change per second.
        """
        elapsed_s, pace = self._own_time(t_ns)
        if elapsed_s < 0.0:
            return self._start, 0.0, 0.0
        steps = elapsed_s / self._dt_s
        index = int(steps)
        if index >= len(self._coefficients):
            return self._end, 0.0, 0.0
        return self._coefficients[index], steps - index, pace / self._dt_s

    def _own_time(self, t_ns: int) -> tuple[float, float]:
        elapsed_s = (t_ns - self.stamp_ns) * 1e-9
        late_s = elapsed_s - self._slow_from_s
        if late_s <= 0.0 or self._slow_s == 0.0:
            return elapsed_s, 1.0
        if late_s >= 2.0 * self._slow_s:
            return self.length_s, 0.0
        share = late_s / (2.0 * self._slow_s)
        return self._slow_from_s + late_s * (1.0 - 0.5 * share), 1.0 - share


def weighted_mean(
    parts: Sequence[tuple[ChunkCurve, float, float]], t_ns: int
) -> NDArray[np.float64]:
    """Return the weighted mean of curves at a time and how it changes, [2, A].

    Args:
        parts: Curves, their weights, whose sum is 1, and the change of these per second.
        t_ns: Time.
    """
    cubics, powers, rates = [], [], []
    for curve, weight, weight_rate in parts:
        cubic, u, u_rate = curve._piece(t_ns)
        cubics.append(cubic)
        rate = weight * u_rate
        powers += [weight, weight * u, weight * u * u, weight * u * u * u]
        rates += [
            weight_rate,
            weight_rate * u + rate,
            weight_rate * u * u + 2.0 * rate * u,
            weight_rate * u * u * u + 3.0 * rate * u * u,
        ]
    mean: NDArray[np.float64] = np.array((powers, rates)) @ np.concatenate(cubics)
    return mean


def _monotone_slopes(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return slopes at the knots per step, [K + 1, A], that do not overshoot any knot.

    The mean of the neighbouring steps (Catmull and Rom), 0 where they turn round, at most three
    times the smaller one (Fritsch and Carlson), and 0 at the end, where the curve comes to rest.
    """
    slopes = np.zeros((len(steps) + 1, steps.shape[1]))
    slopes[0] = steps[0]
    before, after = steps[:-1], steps[1:]
    bound = 3.0 * np.minimum(np.abs(before), np.abs(after))
    mean = np.clip(0.5 * (before + after), -bound, bound)
    slopes[1:-1] = np.where(before * after > 0.0, mean, 0.0)
    return slopes
