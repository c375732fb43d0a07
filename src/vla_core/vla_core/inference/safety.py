# SPDX-License-Identifier: MIT
"""Keep commands within the limits of the joints, and stop within them.

How one joint gets from one command to the next is `JointLimiter`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import compress, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError, SafetyError
from vla_core.inference.joint_limiter import JointLimiter
from vla_core.processing.contract import JointLimits


class LimitedCommand(NamedTuple):
    """What may be commanded, and which joints it cost their target.

    Attributes:
        position: Positions to be reached at the next tick in rad or m, float64 [A].
        velocity: Velocities at that instant, float64 [A].
        limited_joints: Joints whose target was out of reach within their limits.
        cuts: How far each of them stays from its target, rad or m.
        is_met: Whether every joint is within a tick's way of its target, or of the end of its
            range if the target is beyond it.
    """

    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    limited_joints: tuple[str, ...]
    cuts: tuple[float, ...]
    is_met: bool


class CommandLimiter:
    """Follow targets as closely as the limits of the joints allow.

    Everything is measured from the last command, not from the measured state: commands make one
    smooth curve, whatever the arm does. The limiter keeps no state of its own.

    Args:
        limits: Limits of every joint, in the order of the targets.
        dt_s: Time between two commands.

    Raises:
        ConfigError: There is no joint, or ``dt_s`` is not positive.
    """

    def __init__(self, limits: Mapping[str, JointLimits], dt_s: float) -> None:
        if not limits:
            raise ConfigError("limits must name at least one joint, got none.")
        if not dt_s > 0.0:
            raise ConfigError(f"dt_s must be positive, got {dt_s!r}.")
        self.joints = tuple(limits)
        self.dt_s = float(dt_s)
        self.lower = np.array([joint.lower for joint in limits.values()], dtype=np.float64)
        self.upper = np.array([joint.upper for joint in limits.values()], dtype=np.float64)
        self.velocity = np.array([joint.velocity for joint in limits.values()], dtype=np.float64)
        self.acceleration = np.array(
            [joint.acceleration for joint in limits.values()], dtype=np.float64
        )
        self._velocity_step = self.acceleration * self.dt_s
        # A table, as long as the longest stop so far needs it.
        self._braked = np.zeros((0, len(limits)))
        self._joint_limiters = [JointLimiter(joint, self.dt_s) for joint in limits.values()]

    def limit(
        self,
        target: NDArray[np.float64],
        previous_position: NDArray[np.float64],
        previous_velocity: NDArray[np.float64],
        target_velocity: NDArray[np.float64] | None = None,
        *,
        speed: float = 1.0,
    ) -> LimitedCommand:
        """Return the command for the next tick.

        A reachable target is met within two ticks; a distant one is approached at full
        acceleration and velocity and braked for in time, without overshoot. A position that
        starts out of range only ever moves back inside.

        Args:
            target: Where to be at the next tick, [A].
            previous_position: Last commanded positions, [A].
            previous_velocity: Last commanded velocities, [A].
            target_velocity: How fast the target moves, [A]; None for a target at rest. A moving
                target given without it is followed half a tick late.
            speed: Share of the velocity limits to use, in (0, 1]; a joint that is faster slows
                down to it.

        Raises:
            SafetyError: A value is not finite, or has not one element per joint. Stop the arm.
        """
        if target_velocity is None:
            target_velocity = np.zeros_like(previous_velocity)
        numbers = self._finite_numbers(
            target=target,
            target_velocity=target_velocity,
            previous_position=previous_position,
            previous_velocity=previous_velocity,
        )
        commands = map(JointLimiter.next, self._joint_limiters, *numbers, repeat(speed))
        positions, velocities, are_limited, are_met = zip(*commands, strict=True)
        position, velocity = np.array((positions, velocities))
        if True not in are_limited:
            return LimitedCommand(position, velocity, (), (), True)
        return LimitedCommand(
            position,
            velocity,
            tuple(compress(self.joints, are_limited)),
            tuple(compress(np.abs(target - position).tolist(), are_limited)),
            all(are_met),
        )

    def stop_trajectory(
        self, position: NDArray[np.float64], velocity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Decelerate every joint to rest as fast as its limit allows.

        Args:
            position: Last commanded positions, [A].
            velocity: Last commanded velocities, [A].

        Returns:
            Positions and velocities of the following ticks, float64 [2, M, A] with M >= 1; the
            last velocity is exactly zero.

        Raises:
            SafetyError: A value is not finite, or has not one element per joint.
        """
        self._finite_numbers(position=position, velocity=velocity)
        longest = max((np.abs(velocity) / self._velocity_step).tolist())
        braked = self._braked_after(max(1, math.ceil(longest)))  # [M + 1, A]
        velocities = velocity - np.minimum(np.maximum(velocity, -braked), braked)
        velocities[-1] = 0.0
        ways = (velocities[:-1] + velocities[1:]) * (0.5 * self.dt_s)
        ways[0] += position
        positions = np.add.accumulate(ways)
        # Inside the range, or no further out of it than before.
        upper, lower = np.maximum(self.upper, position), np.minimum(self.lower, position)
        positions = np.minimum(np.maximum(positions, lower), upper)
        return np.array((positions, velocities[1:]))

    def _braked_after(self, num_ticks: int) -> NDArray[np.float64]:
        """Return how much slower each joint may be after 0, 1, ... ticks, [num_ticks + 1, A]."""
        if num_ticks >= len(self._braked):
            self._braked = np.arange(num_ticks + 1)[:, None] * self._velocity_step
        return self._braked[: num_ticks + 1]

    def _finite_numbers(self, **given: NDArray[np.float64]) -> list[list[float]]:
        """Return each array as a list, or say which one is unfit and why."""
        numbers: list[list[float]] = []
        for name, values in given.items():
            if values.shape != self.lower.shape:
                self._explain_unfit(name, values)
            numbers.append(values.tolist())
        # Several times per tick: a sum is finite if, and only if, each value is sane.
        if not math.isfinite(sum(map(sum, numbers))):
            for name, values in given.items():
                self._explain_unfit(name, values)
        return numbers

    def _explain_unfit(self, name: str, values: NDArray[np.float64]) -> None:
        if values.shape != self.lower.shape:
            raise SafetyError(
                f"{name} must be [{len(self.joints)}], one value per joint of "
                f"{', '.join(self.joints)}, got {list(values.shape)}."
            )
        if not np.isfinite(values).all():
            wrong = [
                f"{j} = {v}"
                for j, v in zip(self.joints, values, strict=True)
                if not np.isfinite(v)
            ]
            raise SafetyError(f"{name} must be finite, got {', '.join(wrong)}; stop the arm.")
