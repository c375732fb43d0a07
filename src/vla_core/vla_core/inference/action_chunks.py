# SPDX-License-Identifier: MIT
"""Turn action chunks into a smooth curve that can be sampled at any time.

A chunk is placed in time by the stamp of its observation: steps that are past when it arrives are
never executed, and no step index is ever counted. A new chunk is faded in over the old one, which
goes on being sampled meanwhile, so that position and velocity stay continuous.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ChunkError, ConfigError
from vla_core.types import ActionChunk

INTERPOLATIONS = ("cubic", "linear")
EXECUTED_KINDS = ("joint_position",)
_DT_RANGE_S = (1e-3, 10.0)
_LARGEST_TARGET = 1e4  # rad or m: what no robot means and no arithmetic trips over


class ChunkCurve:
    """One chunk as a curve through its targets.

    Args:
        chunk: The chunk; ``actions[k]`` is reached at ``stamp_ns + (k + 1) * dt_s``.
        start: Positions at ``stamp_ns``, [A].
        interpolation: ``'cubic'`` has a continuous velocity and never leaves the range between
            two neighbouring targets (Fritsch and Carlson, 1980); ``'linear'`` has straight lines.
    """

    def __init__(
        self, chunk: ActionChunk, start: NDArray[np.float64], interpolation: str = "cubic"
    ) -> None:
        self.stamp_ns = chunk.stamp_ns
        self._dt_s = chunk.dt_s
        knots = np.vstack((start, chunk.actions))
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
        self._start = knots[0]
        self._end = knots[-1]

    def sample(self, t_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return positions and velocities at a time, at rest before the start and past the end."""
        steps = (t_ns - self.stamp_ns) * 1e-9 / self._dt_s
        if steps < 0.0:
            return self._start.copy(), np.zeros_like(self._start)
        index = int(steps)
        if index >= len(self._coefficients):
            return self._end.copy(), np.zeros_like(self._end)
        u = steps - index
        c0, c1, c2, c3 = self._coefficients[index]
        positions = ((c3 * u + c2) * u + c1) * u + c0
        velocities = ((3.0 * c3 * u + 2.0 * c2) * u + c1) / self._dt_s
        return positions, velocities


class ChunkSampler:
    """Holds the chunk that is due and fades from one to the next.

    Args:
        joints: Joints of the command, in order.
        max_age_s: Age of an observation after which its chunk must not be executed any more.
        blend_s: Duration of the fade from the old chunk to the new one; 0 switches at once.
        interpolation: Between two targets, one of ``INTERPOLATIONS``.

    Raises:
        ConfigError: A duration is out of range, or the interpolation is unknown.
    """

    def __init__(
        self,
        joints: Sequence[str],
        *,
        max_age_s: float,
        blend_s: float = 0.1,
        interpolation: str = "cubic",
    ) -> None:
        if interpolation not in INTERPOLATIONS:
            available = ", ".join(repr(name) for name in INTERPOLATIONS)
            raise ConfigError(
                f"interpolation {interpolation!r} is unknown; available: {available}."
            )
        if not max_age_s > 0.0:
            raise ConfigError(f"max_age_s must be positive, got {max_age_s!r}.")
        if not blend_s >= 0.0:
            raise ConfigError(f"blend_s must not be negative, got {blend_s!r}.")
        self.joints = tuple(joints)
        self.max_age_s = max_age_s
        self._max_age_ns = round(max_age_s * 1e9)
        self.blend_s = blend_s
        self.interpolation = interpolation
        self.switch_jump = 0.0
        self._chunk: ActionChunk | None = None
        self._epoch = 0
        # Each curve fades in over those before it from its arrival on.
        self._curves: list[tuple[ChunkCurve, int]] = []

    @property
    def chunk(self) -> ActionChunk | None:
        """The newest chunk, or None."""
        return self._chunk

    @property
    def epoch(self) -> int:
        """Epoch of the newest chunk."""
        return self._epoch

    def add(
        self,
        chunk: ActionChunk,
        *,
        now_ns: int,
        epoch: int = 0,
        start: NDArray[np.float64] | None = None,
    ) -> None:
        """Take over a new chunk and fade to it from now on.

        ``switch_jump`` is then the largest distance between the old curve and the new one at this
        instant, 0 for a first chunk: what the fade has to hide.

        Args:
            chunk: The chunk.
            now_ns: Time of its arrival.
            epoch: Counts the instructions: a chunk of an earlier one is refused. Once a chunk has
                expired its epoch does not count, so that a restarted policy may begin again at 0.
            start: Positions at the stamp of the chunk, [A]. None takes the held curve's, which
                needs one that has not expired.

        Raises:
            ChunkError: The chunk is late, out of order, not finite, for other joints or of a kind
                that is not executed. The held chunk stays as it is.
        """
        held = None if self.expired(now_ns) else self._chunk
        self._require_usable(chunk, now_ns)
        if held is not None:
            self._require_newer(chunk, epoch, held)
        if start is None:
            if held is None:
                raise ChunkError(
                    "start must be given for a first chunk: the positions at its stamp."
                )
            start = self._evaluate(chunk.stamp_ns)[0]
        elif start.shape != (len(self.joints),) or not np.isfinite(start).all():
            raise ChunkError(
                f"start must be {len(self.joints)} finite positions, got {start.tolist()}."
            )
        curve = ChunkCurve(chunk, start, self.interpolation)
        self.switch_jump = 0.0
        if held is None:
            self._curves = [(curve, now_ns)]
        else:
            jump = np.abs(curve.sample(now_ns)[0] - self._evaluate(now_ns)[0])
            self.switch_jump = float(jump.max())
            self._forget_faded(now_ns)
            self._curves.append((curve, now_ns))
        self._chunk, self._epoch = chunk, epoch

    def sample(self, t_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where to be at a time, and how fast.

        Past the end of a chunk its last target is held. Whether the chunk is too old to be
        followed is for the caller to ask ``expired``.

        Args:
            t_ns: Time, usually that of the next tick.

        Returns:
            Positions in rad or m and velocities, float64 [A] each.

        Raises:
            ChunkError: There is no chunk.
        """
        if not self._curves:
            raise ChunkError("there is no chunk to sample; add one first.")
        return self._evaluate(t_ns)

    def age_s(self, t_ns: int) -> float:
        """Return the age of the newest chunk's observation, infinite without a chunk."""
        if self._chunk is None:
            return float("inf")
        return (t_ns - self._chunk.stamp_ns) * 1e-9

    def expired(self, t_ns: int) -> bool:
        """Return whether there is no chunk, or its observation is too old to act on."""
        return self._chunk is None or t_ns - self._chunk.stamp_ns > self._max_age_ns

    def clear(self) -> None:
        """Forget every chunk; the next one may have any epoch."""
        self._chunk, self._epoch, self._curves, self.switch_jump = None, 0, [], 0.0

    def _evaluate(self, t_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        position, velocity = self._curves[0][0].sample(t_ns)
        for curve, arrival_ns in self._curves[1:]:
            weight, weight_rate = self._fade(t_ns - arrival_ns)
            if weight == 0.0:
                continue
            new_position, new_velocity = curve.sample(t_ns)
            gap = new_position - position
            velocity = velocity + weight * (new_velocity - velocity) + weight_rate * gap
            position = position + weight * gap
        return position, velocity

    def _fade(self, elapsed_ns: int) -> tuple[float, float]:
        """Return the weight of a curve and its rate of change, flat at both ends."""
        elapsed_s = elapsed_ns * 1e-9
        if elapsed_s >= self.blend_s:
            return 1.0, 0.0
        if elapsed_s <= 0.0:
            return 0.0, 0.0
        u = elapsed_s / self.blend_s
        return u * u * (3.0 - 2.0 * u), 6.0 * u * (1.0 - u) / self.blend_s

    def _forget_faded(self, now_ns: int) -> None:
        for index in range(len(self._curves) - 1, 0, -1):
            if self._fade(now_ns - self._curves[index][1])[0] == 1.0:
                del self._curves[:index]
                return

    def _require_usable(self, chunk: ActionChunk, now_ns: int) -> None:
        if chunk.kind not in EXECUTED_KINDS:
            raise ChunkError(
                f"action kind {chunk.kind!r} is not executed; executed: "
                f"{', '.join(repr(kind) for kind in EXECUTED_KINDS)}."
            )
        if chunk.joints != self.joints:
            raise ChunkError(
                f"chunk must be for joints {', '.join(self.joints)} in this order, "
                f"got {', '.join(chunk.joints)}."
            )
        if not np.isfinite(chunk.actions).all():
            step, joint = np.argwhere(~np.isfinite(chunk.actions))[0]
            raise ChunkError(
                f"actions must be finite, got {chunk.actions[step, joint]} for "
                f"{self.joints[joint]} in step {step}."
            )
        largest = float(np.abs(chunk.actions).max())
        if largest > _LARGEST_TARGET:
            raise ChunkError(f"actions must be within +-{_LARGEST_TARGET:g}, got {largest:g}.")
        if not _DT_RANGE_S[0] <= chunk.dt_s <= _DT_RANGE_S[1]:
            raise ChunkError(
                f"dt_s must be from {_DT_RANGE_S[0]:g} to {_DT_RANGE_S[1]:g} s, "
                f"got {chunk.dt_s:g}."
            )
        age_s = (now_ns - chunk.stamp_ns) * 1e-9
        if now_ns - chunk.stamp_ns > self._max_age_ns:
            raise ChunkError(
                f"chunk must answer an observation of the last {self.max_age_s} s, "
                f"its observation is {age_s:.3f} s old."
            )
        if age_s < -chunk.dt_s:
            raise ChunkError(
                f"chunk answers an observation {-age_s:.3f} s in the future; "
                "synchronise the clocks of the machines."
            )

    def _require_newer(self, chunk: ActionChunk, epoch: int, held: ActionChunk) -> None:
        if epoch < self._epoch:
            raise ChunkError(
                f"epoch must be at least {self._epoch}, got a chunk of epoch {epoch}."
            )
        if chunk.stamp_ns < held.stamp_ns:
            late_s = (held.stamp_ns - chunk.stamp_ns) * 1e-9
            raise ChunkError(f"chunk is out of order: {late_s:.3f} s older than the one held.")


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
