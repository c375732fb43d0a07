# SPDX-License-Identifier: MIT
"""Keep commands within the limits of the joints, and stop within them.

Commands come every ``dt_s``. Between two of them the acceleration is constant, so that

    position' = position + (velocity + velocity') / 2 * dt_s

and the limits hold not only at the commands but at every instant between them; it is also exactly
the spline that a trajectory controller draws through them. From there follow two closed forms:
the way that braking takes, and the fastest velocity that can still stop within a given way. A
command is only given if the arm can stop from it before the limit of each joint, so a stop is
possible at any time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError, SafetyError
from vla_core.processing.contract import JointLimits

_TOLERANCE = 1e-9


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
        self._way_step = self._velocity_step * self.dt_s
        self._tick_way = self.velocity * self.dt_s

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
        position, velocity, goal, way, wanted = self._next(
            target, previous_position, previous_velocity, target_velocity, speed
        )
        is_limited = (
            (np.abs(goal - target) > _TOLERANCE)
            | (np.abs(way) > self._way_step + _TOLERANCE)
            | (np.abs(velocity - wanted) > _TOLERANCE)
        )
        if not is_limited.any():
            return LimitedCommand(position, velocity, (), (), True)
        limited = np.flatnonzero(is_limited)
        return LimitedCommand(
            position,
            velocity,
            tuple(self.joints[i] for i in limited),
            tuple(np.abs(target - position)[limited].tolist()),
            bool((np.abs(goal - position) <= self._tick_way).all()),
        )

    def follow(
        self,
        target: NDArray[np.float64],
        previous_position: NDArray[np.float64],
        previous_velocity: NDArray[np.float64],
        target_velocity: NDArray[np.float64],
        *,
        speed: float = 1.0,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return positions and velocities of `limit`, without what they cost; it takes the same.

        Raises:
            SafetyError: A value is not finite, or has not one element per joint. Stop the arm.
        """
        position, velocity, *_ = self._next(
            target, previous_position, previous_velocity, target_velocity, speed
        )
        return position, velocity

    def _next(
        self,
        target: NDArray[np.float64],
        previous_position: NDArray[np.float64],
        previous_velocity: NDArray[np.float64],
        target_velocity: NDArray[np.float64] | None,
        speed: float,
    ) -> tuple[NDArray[np.float64], ...]:
        """Return position, velocity, goal within range, way left to it, and velocity wanted."""
        if target_velocity is None:
            target_velocity = np.zeros_like(previous_velocity)
        self._require_finite(
            target=target,
            previous_position=previous_position,
            previous_velocity=previous_velocity,
            target_velocity=target_velocity,
        )
        goal = np.minimum(np.maximum(target, self.lower), self.upper)
        fastest = self.velocity if speed == 1.0 else speed * self.velocity
        goal_velocity = np.minimum(np.maximum(target_velocity, -fastest), fastest)

        half_dt = 0.5 * self.dt_s
        coasted = previous_position + half_dt * previous_velocity
        # In the frame that moves with the target: what is left of the way if braking starts now.
        way = goal - coasted - half_dt * goal_velocity
        ways = np.empty((3, len(way)))
        np.abs(way, out=ways[0])
        np.subtract(self.upper, coasted, out=ways[1])
        np.subtract(coasted, self.lower, out=ways[2])
        approach, to_upper, to_lower = self._stoppable_velocity(ways)
        wanted = goal_velocity + np.copysign(approach, way)

        # Acceleration comes last, so it always holds; from a reachable state all bounds agree.
        velocity = np.maximum(np.minimum(wanted, to_upper), -to_lower)
        velocity = np.minimum(np.maximum(velocity, -fastest), fastest)
        velocity = np.maximum(velocity, previous_velocity - self._velocity_step)
        velocity = np.minimum(velocity, previous_velocity + self._velocity_step)

        unbounded = coasted + half_dt * velocity
        position = self._inside(unbounded, previous_position)
        # Only a state that no command leads to can still be too fast at its position limit.
        velocity = np.where(np.abs(position - unbounded) > _TOLERANCE, 0.0, velocity)
        return position, velocity, goal, way, wanted

    def stop_trajectory(
        self, position: NDArray[np.float64], velocity: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Decelerate every joint to rest as fast as its limit allows.

        Args:
            position: Last commanded positions, [A].
            velocity: Last commanded velocities, [A].

        Returns:
            Positions and velocities of the following ticks, float64 [M, A] each with M >= 1; the
            last velocity is exactly zero.

        Raises:
            SafetyError: A value is not finite, or has not one element per joint.
        """
        self._require_finite(position=position, velocity=velocity)
        speed = np.abs(velocity)
        num_ticks = max(1, int(np.ceil((speed / self._velocity_step).max())))
        ticks = np.arange(num_ticks + 1, dtype=np.float64)[:, None]
        speeds = np.maximum(speed - ticks * self._velocity_step, 0.0)  # [M + 1, A]
        speeds[-1] = 0.0
        velocities = np.copysign(speeds, velocity)
        ways = np.cumsum((velocities[:-1] + velocities[1:]) * (0.5 * self.dt_s), axis=0)
        positions = self._inside(position + ways, position)
        return positions, velocities[1:] + 0.0  # + 0.0 turns -0.0 into 0.0

    def _stoppable_velocity(self, way: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the highest velocity at the next tick that can stop within the way.

        With the velocity w at the next tick and full braking after it, half a tick at w and the
        braking take ``dt * ((m + 1) * w - step * m * (m + 1) / 2)`` where m is the number of whole
        ticks in w / step; this is its inverse. No way is left where it is negative.
        """
        ways = np.maximum(way, 0.0) / self._way_step
        whole = np.floor(0.5 * (np.sqrt(1.0 + 8.0 * ways) - 1.0))
        return self._velocity_step * (ways / (whole + 1.0) + 0.5 * whole)

    def _inside(
        self, position: NDArray[np.float64], previous: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Clamp to the range, or to the previous position where that is out of range already."""
        upper = np.maximum(self.upper, previous)
        lower = np.minimum(self.lower, previous)
        return np.minimum(np.maximum(position, lower), upper)

    def _require_finite(self, **given: NDArray[np.float64]) -> None:
        # Several times per tick: a sum of squares is finite if, and only if, each value is sane.
        if all(values.shape == self.lower.shape for values in given.values()) and math.isfinite(
            sum(values @ values for values in given.values())
        ):
            return
        for name, values in given.items():
            self._explain_unfit(name, values)

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
