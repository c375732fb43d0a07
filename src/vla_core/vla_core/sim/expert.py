# SPDX-License-Identifier: MIT
"""A scripted expert that lifts a block, by inverse kinematics.

The expert is a function of the present state alone (poses, gripper opening), so that a policy
without memory can imitate it: far from the block it stays high, above the block it comes down,
around the block it closes, with the block in its fingers it lifts.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vla_core.sim.arm_kinematics import ArmKinematics
from vla_core.sim.arm_places import ArmPlaces
from vla_core.sim.scene import BLOCK_SIZE_M, TabletopSim

GRIPPER_OPEN_M = 0.040
GRIPPER_CLOSED_M = 0.012
_GRASP_HEIGHT_M = 0.022
_HOVER_ABOVE_GRASP_M = 0.085
_LIFT_HEIGHT_M = 0.15
_MAX_STEP_M = 0.022
MAX_YAW_STEP_RAD = 0.15
MAX_GRIPPER_STEP_M = 0.010
_START_PROBABILITIES = {"home": 0.4, "anywhere": 0.25, "near": 0.35}
_START_DRAWS = 50


class ScriptedExpert:
    """Chooses the next joint target of an episode from the true poses in the simulation."""

    time_limit_s: ClassVar[float] = 8.0
    hold_steps: ClassVar[int] = 6

    def __init__(self, sim: TabletopSim) -> None:
        """Watch a simulation."""
        self._sim = sim
        self._kinematics = ArmKinematics()
        self._places = ArmPlaces(sim)

    def choose_start(self, rng: np.random.Generator) -> tuple[str, NDArray[np.float64] | None]:
        """Choose where a demonstration starts.

        Many start away from home: what an imitating policy does a little wrong takes it to such
        places, and there the expert shows the way back.

        Returns:
            'home', 'anywhere' or 'near', and joint positions [7]; None for home.
        """
        kinds = list(_START_PROBABILITIES)
        start = str(rng.choice(kinds, p=list(_START_PROBABILITIES.values())))
        if start == "home":
            return start, None
        return start, self._draw_free(rng, start, self._sim.task_status().target)

    def act(self, command: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the joint target to be reached at the next action step.

        Args:
            command: The present joint command in the order of JOINTS, rad and m, [7].

        Returns:
            The next joint target, rad and m, [7].
        """
        block, block_yaw = self._sim.block_pose(self._sim.task_status().target)
        tool, yaw = self._kinematics.tool_pose(command[:-1])
        if self._holds(block):
            goal, goal_yaw = np.array([tool[0], tool[1], _LIFT_HEIGHT_M]), yaw
            gripper = GRIPPER_CLOSED_M
        else:
            goal, goal_yaw, gripper = self._grasp(block, block_yaw, tool, yaw)
        return self._move(command, goal, goal_yaw, gripper, clear_m=_clear_height(block))

    def _draw_free(
        self, rng: np.random.Generator, start: str, colour: str
    ) -> NDArray[np.float64] | None:
        """Return joint positions [7] 'anywhere' or 'near' a block that touch nothing, or None."""
        for _ in range(_START_DRAWS):
            if start == "anywhere":
                positions = self._places.anywhere(rng)
            else:
                positions = self._places.near_block(rng, colour)
            self._sim.set_joint_positions(positions)
            if not self._sim.arm_in_contact():
                return positions
        return None

    def _grasp(
        self, block: NDArray[np.float64], block_yaw: float, tool: NDArray[np.float64], yaw: float
    ) -> tuple[NDArray[np.float64], float, float]:
        """Return where the tool goes for a block: position [3], yaw, and the gripper's opening."""
        opening = self._sim.joint_positions()[-1]
        goal_yaw = yaw + _wrap_quarter(block_yaw - yaw)
        if abs(goal_yaw) > np.pi / 2:
            goal_yaw -= np.sign(goal_yaw) * np.pi / 2
        distance = float(np.linalg.norm(block[:2] - tool[:2]))
        height = _GRASP_HEIGHT_M + _HOVER_ABOVE_GRASP_M * hover_share(
            distance, goal_yaw - yaw, opening
        )
        around = distance < 0.010 and tool[2] < _GRASP_HEIGHT_M + 0.006
        gripper = GRIPPER_CLOSED_M if around else GRIPPER_OPEN_M
        return np.array([block[0], block[1], height]), goal_yaw, gripper

    def _move(
        self,
        command: NDArray[np.float64],
        goal: NDArray[np.float64],
        goal_yaw: float,
        gripper: float,
        *,
        clear_m: float,
    ) -> NDArray[np.float64]:
        """Return the joint target one step towards a place of the tool.

        Args:
            command: The present joint command, rad and m, [7].
            goal: Where the tool goes, m, [3].
            goal_yaw: Its yaw there, rad.
            gripper: Opening that the gripper goes to, m.
            clear_m: Height below which the tool goes straight up unless it is above its goal, m.
        """
        tool, yaw = self._kinematics.tool_pose(command[:-1])
        position = tool + approach(goal - tool)
        is_beside = float(np.linalg.norm(goal[:2] - tool[:2])) > 0.03
        if is_beside and tool[2] < clear_m:
            position[:2] = tool[:2]
        next_yaw = yaw + float(np.clip(goal_yaw - yaw, -MAX_YAW_STEP_RAD, MAX_YAW_STEP_RAD))
        arm = self._kinematics.solve(command[:-1], position, next_yaw)
        step = np.clip(gripper - command[-1], -MAX_GRIPPER_STEP_M, MAX_GRIPPER_STEP_M)
        return np.append(arm, command[-1] + step)

    def _holds(self, block: NDArray[np.float64]) -> bool:
        tool, rotation = self._sim.tool_pose()
        offset = rotation.T @ (block - tool)
        is_between = abs(offset[0]) < 0.02 and abs(offset[2]) < 0.02
        return bool(is_between and self._sim.joint_positions()[-1] < BLOCK_SIZE_M / 2 * 1.12)


def _clear_height(block: NDArray[np.float64]) -> float:
    """Return the tool height above which the fingers pass over a block [m]."""
    return float(block[2]) + 0.045


def approach(offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a step towards an offset [3]: fast when far, gentle when near, never overshooting."""
    distance = float(np.linalg.norm(offset))
    if distance < 1e-9:
        return np.zeros(3)
    length = min(distance, _MAX_STEP_M, max(0.4 * distance, 0.004))
    return offset * (length / distance)


def hover_share(distance: float, yaw_error: float, opening: float) -> float:
    """Return how much of the hovering height to keep, in [0, 1]: 0 where the gripper fits.

    Args:
        distance: Way that is left to the place of the grasp, level, m.
        yaw_error: Turn that is left, rad.
        opening: Of a finger, m.
    """
    misfit = max(
        (distance - 0.006) / 0.034,
        (abs(yaw_error) - 0.08) / 0.5,
        (0.036 - opening) / 0.010 if distance > 0.012 else 0.0,
    )
    return float(np.clip(misfit, 0.0, 1.0))


def _wrap_quarter(angle: float) -> float:
    """Wrap an angle to +-45 degrees: a cube looks the same after a quarter turn."""
    return float((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)
