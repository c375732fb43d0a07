# SPDX-License-Identifier: MIT
"""The next command of one joint within its limits.

Commands come every ``dt_s``. Between two of them the acceleration is constant, so that

    position' = position + (velocity + velocity') / 2 * dt_s

and the limits hold not only at the commands but at every instant between them; it is also exactly
the spline that a trajectory controller draws through them. From there follow two closed forms:
the way that braking takes, and the fastest velocity that can still stop within a given way. A
command is only given if the joint can stop from it before its limit, so a stop is possible at any
time.

It works with plain numbers: for the joints of an arm or two they take less time than arrays.
"""

from __future__ import annotations

import math

from vla_core.processing.contract import JointLimits

_TOLERANCE = 1e-9


class JointLimiter:
    """Follow targets as closely as the limits of one joint allow.

    Args:
        limits: Of the joint.
        dt_s: Time between two commands.
    """

    __slots__ = (
        "_braking_way",
        "_dt_s",
        "_half_dt",
        "_lower",
        "_step",
        "_tick_way",
        "_upper",
        "_velocity",
        "_way_step",
    )

    def __init__(self, limits: JointLimits, dt_s: float) -> None:
        self._lower, self._upper, self._velocity = limits.lower, limits.upper, limits.velocity
        self._dt_s, self._half_dt = dt_s, 0.5 * dt_s
        self._step = limits.acceleration * dt_s
        self._way_step = self._step * dt_s
        self._tick_way = self._velocity * dt_s
        whole = self._velocity // self._step
        self._braking_way = dt_s * (whole + 1.0) * (self._velocity - 0.5 * self._step * whole)

    def next(
        self,
        target: float,
        target_velocity: float,
        position: float,
        velocity: float,
        speed: float,
    ) -> tuple[float, float, bool, bool]:
        """Return position and velocity at the next tick, whether limited, and whether met.

        It is limited where a limit keeps it from its target, and met within a tick's way of the
        target, or of the end of the range if the target is beyond it.

        Args:
            target: Where to be at the next tick, rad or m.
            target_velocity: How fast the target moves.
            position: Last commanded position.
            velocity: Last commanded velocity.
            speed: Share of the velocity limit to use.
        """
        lower, upper, step = self._lower, self._upper, self._step
        fastest = speed * self._velocity
        goal = lower if target < lower else upper if target > upper else target
        goal_velocity = _within(target_velocity, fastest)
        coasted = position + self._half_dt * velocity
        # In the frame that moves with the target: what is left of the way if braking starts now.
        way = goal - coasted - self._half_dt * goal_velocity
        is_near = abs(way) <= self._way_step
        wanted = goal_velocity + (
            way / self._dt_s if is_near else math.copysign(self._stoppable_velocity(abs(way)), way)
        )

        room = upper - coasted if wanted > 0.0 else coasted - lower
        if room < self._braking_way:
            fastest = min(fastest, self._stoppable_velocity(max(room, 0.0)))
        # Acceleration comes last, so it always holds; from a reachable state all bounds agree.
        next_velocity = velocity + _within(_within(wanted, fastest) - velocity, step)
        next_position = coasted + self._half_dt * next_velocity
        if not lower <= next_position <= upper:
            # Inside the range, or no further out of it than before.
            inside = min(max(next_position, min(lower, position)), max(upper, position))
            # Only a state that no command leads to can still be too fast at its position limit.
            if abs(inside - next_position) > _TOLERANCE:
                next_velocity = 0.0
            next_position = inside
        is_limited = (
            abs(way) > self._way_step + _TOLERANCE
            or abs(next_velocity - wanted) > _TOLERANCE
            or abs(goal - target) > _TOLERANCE
        )
        is_met = abs(goal - next_position) <= self._tick_way
        return next_position, next_velocity, is_limited, is_met

    def _stoppable_velocity(self, way: float) -> float:
        """Return the highest velocity at the next tick that can stop within the way.

        With the velocity w at the next tick and full braking after it, half a tick at w and the
        braking take ``dt * ((m + 1) * w - step * m * (m + 1) / 2)`` where m is the number of whole
        ticks in w / step; this is its inverse.
        """
        ways = way / self._way_step
        whole = (0.5 * (math.sqrt(1.0 + 8.0 * ways) - 1.0)) // 1.0
        return self._step * (ways / (whole + 1.0) + 0.5 * whole)


def _within(value: float, bound: float) -> float:
    return value if -bound <= value <= bound else math.copysign(bound, value)
