# SPDX-License-Identifier: MIT
"""A scripted expert of the hand-over, by inverse kinematics.

It is a function of the present state alone. The left arm takes its end of the bar, carries it to
the middle and waits; the right arm, which waits beside, takes the other end; then the left arm
lets go and draws back, and the right arm carries the bar into its half.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vla_core.sim.arm_kinematics import ArmKinematics
from vla_core.sim.arm_model import HOME, JOINTS
from vla_core.sim.expert import (
    GRIPPER_CLOSED_M,
    GRIPPER_OPEN_M,
    MAX_GRIPPER_STEP_M,
    MAX_YAW_STEP_RAD,
    approach,
    hover_share,
)
from vla_core.sim.hand_over import (
    ARMS,
    BAR_WIDTH_M,
    BASE_POSITIONS_M,
    BASE_YAWS_RAD,
    HandOverSim,
)

_GRIP_OFFSET_M = 0.06
_EXCHANGE_M = np.array([0.0, 0.0, 0.16])
_HOLD_M = np.array([0.0, -0.17, 0.18])
_GRASP_ABOVE_CENTRE_M = 0.002
_HOVER_M = 0.075
_CLEAR_M = 0.06
_HELD_BELOW_M = BAR_WIDTH_M / 2 * 1.12
# The fingers press themselves a millimetre into the bar.
_FIRM_BELOW_M = BAR_WIDTH_M / 2 * 0.97
_HELD_OPENING_M = BAR_WIDTH_M / 2 - 0.0012
_HOME_PROBABILITY = 0.5
_MAX_STEPS_BEFORE_DRIFT = 45
_MAX_DRIFT_STEPS = 8
_DRIFT_RAD = 0.015


class _Hand:
    """One arm: where its tool is commanded to be, and the command that moves it."""

    def __init__(self, sim: HandOverSim, arm: int) -> None:
        self._sim = sim
        self._arm = arm
        self._kinematics = ArmKinematics()
        self._base = np.array(BASE_POSITIONS_M[arm])
        self._base_yaw = BASE_YAWS_RAD[arm]
        cos, sin = np.cos(self._base_yaw), np.sin(self._base_yaw)
        self._rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        self._part = slice(arm * len(JOINTS), (arm + 1) * len(JOINTS))
        self.home = self._to_world(self._kinematics.tool_pose(HOME[:-1])[0])

    def look(self, command: NDArray[np.float64]) -> None:
        """Read the present state, given the command of both arms [14]."""
        self._command = command[self._part]
        tool, self.yaw = self._kinematics.tool_pose(self._command[:-1])
        self.tool = self._to_world(tool)
        self.opening = float(self._sim.joint_positions()[self._part][-1])

    def holds(self, grip: NDArray[np.float64], below_m: float = _HELD_BELOW_M) -> bool:
        """Whether the fingers are around a place on the bar [3], less than below_m open."""
        tool, rotation = self._sim.tool_pose(self._arm)
        offset = rotation.T @ (grip - tool)
        is_between = abs(offset[0]) < 0.03 and abs(offset[1]) < 0.02 and abs(offset[2]) < 0.025
        return bool(is_between and self.opening < below_m)

    def move(
        self, goal: NDArray[np.float64], goal_yaw: float, gripper: float
    ) -> NDArray[np.float64]:
        """Return the joint target [7] that comes one step closer to a goal.

        Args:
            goal: Tool position in the world, m, [3].
            goal_yaw: Yaw of the tool in the arm's base frame, rad.
            gripper: Opening of a finger, m.
        """
        position = self.tool + approach(goal - self.tool)
        yaw = self.yaw + np.clip(goal_yaw - self.yaw, -MAX_YAW_STEP_RAD, MAX_YAW_STEP_RAD)
        local = self._rotation.T @ (position - self._base)
        arm = self._kinematics.solve(self._command[:-1], local, float(yaw))
        step = np.clip(gripper - self._command[-1], -MAX_GRIPPER_STEP_M, MAX_GRIPPER_STEP_M)
        return np.append(arm, self._command[-1] + step)

    def grasp(self, grip: NDArray[np.float64], bar_yaw: float) -> NDArray[np.float64]:
        """Return the joint target [7] on the way to holding the bar at a place [3]."""
        goal_yaw = _wrap_half(bar_yaw - self._base_yaw)
        distance = float(np.linalg.norm(grip[:2] - self.tool[:2]))
        floor = grip[2] + _GRASP_ABOVE_CENTRE_M
        goal = np.array(
            [
                *grip[:2],
                floor + _HOVER_M * hover_share(distance, goal_yaw - self.yaw, self.opening),
            ]
        )
        if distance > 0.03 and self.tool[2] < grip[2] + 0.045:
            goal[:2] = self.tool[:2]
        is_around = distance < 0.010 and self.tool[2] < floor + 0.006
        return self.move(goal, goal_yaw, GRIPPER_CLOSED_M if is_around else GRIPPER_OPEN_M)

    def release(self, grip: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the joint target [7] on the way home from a place on the bar [3]."""
        if not self.is_clear(grip):
            up = np.array([0.0, 0.0, 0.04 if self.opening > 0.034 else 0.0])
            return self.move(self.tool + up, self.yaw, GRIPPER_OPEN_M)
        return self.move(self.home, 0.0, GRIPPER_OPEN_M)

    def is_clear(self, grip: NDArray[np.float64]) -> bool:
        """Whether the fingers are away from a place on the bar [3]."""
        is_beside = float(np.linalg.norm(grip[:2] - self.tool[:2])) > 0.08
        return is_beside or bool(self.tool[2] > grip[2] + _CLEAR_M)

    def _to_world(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._base + self._rotation @ position


class HandOverExpert:
    """Chooses the next joint targets of both arms from the true poses in the simulation."""

    time_limit_s: ClassVar[float] = 18.0
    hold_steps: ClassVar[int] = 6

    def __init__(self, sim: HandOverSim) -> None:
        """Watch a simulation."""
        self._sim = sim
        self._grippers = np.arange(1, len(ARMS) + 1) * len(JOINTS) - 1
        self._giver, self._receiver = (_Hand(sim, arm) for arm in range(len(ARMS)))

    def choose_start(self, rng: np.random.Generator) -> tuple[str, NDArray[np.float64] | None]:
        """Choose where a demonstration starts.

        Half of them start at some moment of the task, from where both arms have drifted: what an
        imitating policy does a little wrong takes it to such places, and there the expert shows
        the way back.

        Returns:
            'home' or 'adrift', and joint positions [14]; None for home.
        """
        if rng.random() < _HOME_PROBABILITY:
            return "home", None
        command = self._sim.home.copy()
        for _ in range(rng.integers(_MAX_STEPS_BEFORE_DRIFT)):
            command = self._play(command, self.act(command))
        drift = rng.normal(0.0, _DRIFT_RAD, len(command))
        drift[self._grippers] = 0.0
        for _ in range(rng.integers(1, _MAX_DRIFT_STEPS)):
            command = self._play(command, command + drift)
        positions = self._sim.joint_positions().copy()
        openings = positions[self._grippers]
        is_holding = (openings < _HELD_BELOW_M) & (openings > BAR_WIDTH_M / 2 - 0.002)
        positions[self._grippers] = np.where(is_holding, _HELD_OPENING_M, openings)
        return "adrift", positions

    def act(self, command: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the joint target to be reached at the next action step.

        Args:
            command: The present joint command in the order of the joints, rad and m, [14].

        Returns:
            The next joint target, rad and m, [14].
        """
        giver, receiver = self._giver, self._receiver
        giver.look(command)
        receiver.look(command)
        bar, rotation = self._sim.bar_pose()
        axis = rotation[:, 0]
        yaw = float(np.arctan2(axis[1], axis[0]))
        left_end, right_end = bar - _GRIP_OFFSET_M * axis, bar + _GRIP_OFFSET_M * axis
        if receiver.holds(right_end, _FIRM_BELOW_M if giver.holds(left_end) else _HELD_BELOW_M):
            left = giver.release(left_end)
            goal = _HOLD_M if giver.is_clear(left_end) else receiver.tool
            return np.append(left, receiver.move(goal, 0.0, GRIPPER_CLOSED_M))
        waiting = receiver.move(receiver.home, 0.0, GRIPPER_OPEN_M)
        if not giver.holds(left_end):
            return np.append(giver.grasp(left_end, yaw), waiting)
        goal = giver.tool + _EXCHANGE_M - [0.0, -_GRIP_OFFSET_M, 0.0] - left_end
        if bar[2] < 0.07:
            goal[:2] = giver.tool[:2]
        left = giver.move(goal, 0.0, GRIPPER_CLOSED_M)
        is_offered = np.linalg.norm(bar - _EXCHANGE_M) < 0.03
        return np.append(left, receiver.grasp(right_end, yaw) if is_offered else waiting)

    def _play(
        self, command: NDArray[np.float64], target: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Move from a joint command [14] to a target [14] within an action period."""
        target = np.clip(target, self._sim.lower, self._sim.upper)
        for part in np.linspace(0.2, 1.0, 5):
            self._sim.step(command + part * (target - command), 10)
        return target


def _wrap_half(angle: float) -> float:
    """Wrap an angle to +-90 degrees: a bar looks the same after a half turn."""
    return float((angle + np.pi / 2) % np.pi - np.pi / 2)
