# SPDX-License-Identifier: MIT
"""Decide when a gripper gets a new goal: once per change, not once per tick.

A goal that comes before the last one is reached makes a gripper start anew, and one that grasps
let go.
"""

from __future__ import annotations

from vla_core.processing.contract import GripperContract

_MIN_INTERVAL_NS = 250_000_000
_RESOLUTION = 0.05  # of the way from open to closed, that is worth a goal while it changes


class GripperGoals:
    """Turns the commanded positions of one gripper into goals.

    Args:
        gripper: How the gripper is driven.
    """

    def __init__(self, gripper: GripperContract) -> None:
        self._gripper = gripper
        self._travel = abs(gripper.open - gripper.closed)
        self._goal: float | None = None
        self._goal_ns: int | None = None
        self._is_forgotten = False
        self._position: float | None = None
        self._still_since_ns = 0

    def forget(self) -> None:
        """Have a goal come again even if it is the last one; from any thread."""
        self._is_forgotten = True

    def decide(self, position: float, now_ns: int) -> float | None:
        """Return a new goal, or None if the last one stands.

        Args:
            position: Commanded position of the gripper's joint, m or rad.
            now_ns: Time of the tick; the first goal comes a moment after the first tick, for a
                motion begins where the gripper happens to be.
        """
        if self._goal_ns is None or now_ns < self._goal_ns:
            self._goal_ns = now_ns
        if position != self._position:
            self._position, self._still_since_ns = position, now_ns
        if now_ns - self._goal_ns < _MIN_INTERVAL_NS:
            return None
        wanted = self._wanted(position, now_ns)
        if wanted is None or (wanted == self._goal and not self._is_forgotten):
            return None
        self._is_forgotten = False
        self._goal, self._goal_ns = wanted, now_ns
        return wanted

    def _wanted(self, position: float, now_ns: int) -> float | None:
        gripper = self._gripper
        if gripper.mode == "binary":
            share = (position - gripper.closed) / (gripper.open - gripper.closed)
            if share > gripper.threshold + gripper.hysteresis:
                return gripper.open
            if share < gripper.threshold - gripper.hysteresis:
                return gripper.closed
            return self._goal
        is_still = now_ns - self._still_since_ns >= _MIN_INTERVAL_NS
        if self._goal is None or is_still:
            return position
        return position if abs(position - self._goal) >= _RESOLUTION * self._travel else None
