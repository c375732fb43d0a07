# SPDX-License-Identifier: MIT
"""Turn action chunks into a smooth curve that can be sampled at any time.

A chunk is placed in time by the stamp of its observation: steps that are past when it arrives are
never executed, and no step index is ever counted. A new chunk is faded in over the old one, which
goes on being sampled meanwhile, so that position and velocity stay continuous. Where nothing new
has come by the end of a chunk, its time runs ever slower instead of ending at full speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ChunkError, ConfigError
from vla_core.inference.chunk_curve import INTERPOLATIONS, ChunkCurve, weighted_mean
from vla_core.types import ActionChunk

BLENDINGS = ("blend", "ensemble")
_DT_RANGE_S = (1e-3, 10.0)
_LARGEST_TARGET = 1e4  # rad or m: what no robot means and no arithmetic trips over


@dataclass(slots=True)
class _Member:
    """A curve that is faded in from a time on, and counts until the next has taken over.

    In an ensemble it fades out from ``leaving_ns`` on: its end, but not before the next arrives.
    """

    curve: ChunkCurve
    entering_ns: int
    leaving_ns: int
    sequence: int


class ChunkSampler:
    """Holds the chunk that is due and fades from one to the next.

    Args:
        joints: Joints of the command, in order.
        max_age_s: Age of an observation after which its chunk must not be executed any more.
        blend_s: Duration of the fade from the old chunk to the new one; 0 switches at once.
        interpolation: Between two targets, one of ``INTERPOLATIONS``.
        blending: ``'blend'``: the newest chunk counts once it is faded in. ``'ensemble'``: all
            that have not ended count, with weights exp(-m * i), i = 0 for the oldest one
            (ACT, arXiv:2304.13705); blend_s then is how long each takes to enter and to leave.
        ensemble_m: The m of the weights: positive values trust the older chunks more, 0 all
            alike, negative ones the younger.
        slow_s: Time before the end of the newest chunk from which on it is followed ever slower.

    Raises:
        ConfigError: A number is out of range, or a choice is unknown.
    """

    def __init__(
        self,
        joints: Sequence[str],
        *,
        max_age_s: float,
        blend_s: float = 0.1,
        interpolation: str = "cubic",
        blending: str = "blend",
        ensemble_m: float = 0.01,
        slow_s: float = 0.0,
    ) -> None:
        for name, value, choices in (
            ("interpolation", interpolation, INTERPOLATIONS),
            ("blending", blending, BLENDINGS),
        ):
            if value not in choices:
                available = ", ".join(repr(choice) for choice in choices)
                raise ConfigError(f"{name} {value!r} is unknown; available: {available}.")
        if not max_age_s > 0.0:
            raise ConfigError(f"max_age_s must be positive, got {max_age_s!r}.")
        if not blend_s >= 0.0:
            raise ConfigError(f"blend_s must not be negative, got {blend_s!r}.")
        if not slow_s >= 0.0:
            raise ConfigError(f"slow_s must not be negative, got {slow_s!r}.")
        if not math.isfinite(ensemble_m):
            raise ConfigError(f"ensemble_m must be finite, got {ensemble_m!r}.")
        self.joints = tuple(joints)
        self.max_age_s = max_age_s
        self._max_age_ns = round(max_age_s * 1e9)
        self.blend_s = blend_s
        self.interpolation = interpolation
        self.slow_s = slow_s
        self._is_ensemble = blending == "ensemble"
        self._ensemble_m = ensemble_m
        self.switch_jump = 0.0
        self._chunk: ActionChunk | None = None
        self._epoch = 0
        self._members: list[_Member] = []

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
        fade_ns: int | None = None,
        sequence: int = 0,
        epoch: int = 0,
        start: NDArray[np.float64] | None = None,
        targets: NDArray[np.float64] | None = None,
    ) -> None:
        """Take over a new chunk and fade to it.

        ``switch_jump`` is then the largest distance between the old curve and the new one at this
        instant, 0 for a first chunk: what the fade has to hide.

        Args:
            chunk: The chunk.
            now_ns: Time of its arrival.
            fade_ns: Time at which the fade begins; None: at its arrival.
            sequence: Its number.
            epoch: Counts the instructions: a chunk of an earlier one is refused. Once a chunk has
                expired its epoch does not count, so that a restarted policy may begin again at 0.
            start: Positions at the stamp of the chunk, [A]. None takes the held curve's, which
                needs one that has not expired.
            targets: What the chunk asks for as joint positions, [K, A]; None if its actions are
                that already.

        Raises:
            ChunkError: The chunk is late, out of order, not finite, for other joints, or no joint
                positions. The held chunk stays as it is.
        """
        held = None if self.expired(now_ns) else self._chunk
        if targets is None:
            targets = self._positions_of(chunk)
        self._require_usable(chunk, targets, now_ns)
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
        curve = ChunkCurve(
            chunk.stamp_ns,
            chunk.dt_s,
            targets,
            start,
            interpolation=self.interpolation,
            max_age_s=self.max_age_s,
            slow_s=self.slow_s,
        )
        self.switch_jump = 0.0
        begin_ns = now_ns if fade_ns is None else fade_ns
        if held is None:
            self._members.clear()
        else:
            jump = np.abs(curve.sample(now_ns)[0] - self._evaluate(now_ns)[0])
            self.switch_jump = float(jump.max())
            self._forget_faded(now_ns)
            newest = self._members[-1]
            newest.leaving_ns = max(newest.leaving_ns, begin_ns)
        leaving_ns = chunk.stamp_ns + round(curve.length_s * 1e9)
        self._members.append(_Member(curve, begin_ns, leaving_ns, sequence))
        self._chunk, self._epoch = chunk, epoch

    def sample(self, t_ns: int) -> NDArray[np.float64]:
        """Return where to be at a time, and how fast.

        Past the end of a chunk its last target is held. Whether the chunk is too old to be
        followed is for the caller to ask ``expired``.

        Args:
            t_ns: Time, usually that of the next tick.

        Returns:
            Positions in rad or m and velocities, float64 [2, A].

        Raises:
            ChunkError: There is no chunk.
        """
        if not self._members:
            raise ChunkError("there is no chunk to sample; add one first.")
        return self._evaluate(t_ns)

    def pace(self, t_ns: int) -> float:
        """Return how fast the newest chunk's time runs: less than 1 when its end is near."""
        return self._members[-1].curve.pace(t_ns) if self._members else 1.0

    def sequence(self, t_ns: int) -> int:
        """Return the number of the newest chunk that is being faded in at a time; 0: none is."""
        for member in reversed(self._members):
            if member.entering_ns <= t_ns:
                return member.sequence
        return 0

    def age_s(self, t_ns: int) -> float:
        """Return the age of the newest chunk's observation, infinite without a chunk."""
        if self._chunk is None:
            return float("inf")
        return (t_ns - self._chunk.stamp_ns) * 1e-9

    def describe_age(self, t_ns: int) -> str:
        """Return how old the newest chunk's observation is and may be, for a human."""
        return (
            f"the observation of the newest chunk is {self.age_s(t_ns):.3f} s old, at most "
            f"{self.max_age_s:g} s is allowed"
        )

    def expired(self, t_ns: int) -> bool:
        """Return whether there is no chunk, or its observation is too old to act on."""
        return self._chunk is None or t_ns - self._chunk.stamp_ns > self._max_age_ns

    def clear(self) -> None:
        """Forget every chunk; the next one may have any epoch."""
        self._chunk, self._epoch, self._members, self.switch_jump = None, 0, [], 0.0

    def _evaluate(self, t_ns: int) -> NDArray[np.float64]:
        weigh = self._ensemble_weights if self._is_ensemble else self._blend_weights
        return weighted_mean(weigh(t_ns), t_ns)

    def _blend_weights(self, t_ns: int) -> list[tuple[ChunkCurve, float, float]]:
        """Return the curves that count: each takes from the older ones what it is faded in."""
        weights = []
        left, left_rate = 1.0, 0.0
        for member in reversed(self._members[1:]):
            fade, fade_rate = self._fade(t_ns - member.entering_ns)
            if fade == 0.0:
                continue
            weights.append((member.curve, left * fade, left_rate * fade + left * fade_rate))
            if fade == 1.0:
                return weights
            left, left_rate = left * (1.0 - fade), left_rate * (1.0 - fade) - left * fade_rate
        weights.append((self._members[0].curve, left, left_rate))
        return weights

    def _ensemble_weights(self, t_ns: int) -> list[tuple[ChunkCurve, float, float]]:
        """Return the curves that count, each with its share of all weights.

        That the oldest leaves, which makes each other one i lower, changes all weights by the same
        factor, and so nothing.
        """
        weights = []
        newest = len(self._members) - 1
        for index, member in enumerate(self._members):
            enter, enter_rate = self._fade(t_ns - member.entering_ns) if index > 0 else (1.0, 0.0)
            leave, leave_rate = (
                self._fade(t_ns - member.leaving_ns) if index < newest else (0.0, 0.0)
            )
            scale = math.exp(-self._ensemble_m * index)
            weight = scale * enter * (1.0 - leave)
            rate = scale * (enter_rate * (1.0 - leave) - enter * leave_rate)
            if weight > 0.0:
                weights.append((member.curve, weight, rate))
        total = sum(weight for _, weight, _ in weights)
        total_rate = sum(rate for _, _, rate in weights)
        return [
            (curve, weight / total, (rate - weight / total * total_rate) / total)
            for curve, weight, rate in weights
        ]

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
        """Drop what no longer counts: all before one that is faded in, or those that have left."""
        if self._is_ensemble:
            while (
                len(self._members) > 1
                and self._fade(now_ns - self._members[0].leaving_ns)[0] == 1.0
            ):
                del self._members[0]
            return
        for index in range(len(self._members) - 1, 0, -1):
            if self._fade(now_ns - self._members[index].entering_ns)[0] == 1.0:
                del self._members[:index]
                return

    def _positions_of(self, chunk: ActionChunk) -> NDArray[np.float64]:
        if chunk.kind != "joint_position":
            raise ChunkError(
                f"actions of kind {chunk.kind!r} must be given as joint targets as well."
            )
        if chunk.joints != self.joints:
            raise ChunkError(
                f"chunk must be for joints {', '.join(self.joints)} in this order, "
                f"got {', '.join(chunk.joints)}."
            )
        return chunk.actions

    def _require_usable(
        self, chunk: ActionChunk, targets: NDArray[np.float64], now_ns: int
    ) -> None:
        if targets.shape != (len(chunk.actions), len(self.joints)):
            raise ChunkError(
                f"targets must be [{len(chunk.actions)}, {len(self.joints)}], "
                f"got {list(targets.shape)}."
            )
        if not np.isfinite(targets).all():
            step, joint = np.argwhere(~np.isfinite(targets))[0]
            raise ChunkError(
                f"actions must be finite, got {targets[step, joint]} for "
                f"{self.joints[joint]} in step {step}."
            )
        largest = float(np.abs(targets).max())
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
