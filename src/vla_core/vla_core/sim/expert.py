# SPDX-License-Identifier: MIT
"""A scripted expert that lifts a block, by inverse kinematics (mink).

The expert is a function of the present state alone (poses, gripper opening), so that a policy
without memory can imitate it: far from the block it stays high, above the block it comes down,
around the block it closes, with the block in its fingers it lifts.
"""

from __future__ import annotations

import mink
import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_core.sim.scene import ASSETS, BLOCK_SIZE_M, JOINTS, TabletopSim

GRIPPER_OPEN_M = 0.040
GRIPPER_CLOSED_M = 0.012
_GRASP_HEIGHT_M = 0.022
_HOVER_ABOVE_GRASP_M = 0.085
_LIFT_HEIGHT_M = 0.15
_MAX_STEP_M = 0.022
_MAX_YAW_STEP_RAD = 0.15
_MAX_GRIPPER_STEP_M = 0.010
_IK_STEPS = 12


class ArmKinematics:
    """Forward and inverse kinematics of the arm with the tool pointing down."""

    def __init__(self) -> None:
        """Load the arm alone, without a scene."""
        spec = mujoco.MjSpec.from_file(str(ASSETS / "tabletop_arm.urdf"))
        model = spec.compile()
        self._configuration = mink.Configuration(model)
        self._task = mink.FrameTask("tool0", "body", position_cost=1.0, orientation_cost=0.3)
        self._limits = [mink.ConfigurationLimit(model)]
        self._fingers = [
            model.joint(n).dofadr[0] for n in ("gripper_joint", "gripper_mirror_joint")
        ]
        self._arm = np.array([model.joint(name).qposadr[0] for name in JOINTS[:-1]])

    def tool_pose(self, arm_positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Return the tool's position [3] in m and its yaw in rad, in the base frame."""
        self._set(arm_positions)
        pose = self._configuration.get_transform_frame_to_world("tool0", "body")
        rotation = pose.rotation().as_matrix()
        return pose.translation(), float(np.arctan2(rotation[1, 1], rotation[0, 1]) - np.pi / 2)

    def solve(
        self, arm_positions: NDArray[np.float64], position: NDArray[np.float64], yaw: float
    ) -> NDArray[np.float64]:
        """Find joint positions that put the tool, pointing down, at a place.

        Args:
            arm_positions: Where the search starts, rad, [6].
            position: Tool position in the base frame, m, [3].
            yaw: Rotation of the gripper about the vertical, rad; 0 opens it along y.

        Returns:
            Joint positions, rad, [6].
        """
        self._set(arm_positions)
        down = np.diag([-1.0, 1.0, -1.0])
        cos, sin = np.cos(yaw), np.sin(yaw)
        rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ down
        self._task.set_target(
            mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(rotation), position)
        )
        for _ in range(_IK_STEPS):
            velocity = mink.solve_ik(
                self._configuration, [self._task], 1.0, "daqp", damping=1e-4, limits=self._limits
            )
            velocity[self._fingers] = 0.0
            self._configuration.integrate_inplace(velocity, 1.0)
            if np.abs(velocity).max() < 1e-5:
                break
        return self._configuration.q[self._arm].copy()

    def _set(self, arm_positions: NDArray[np.float64]) -> None:
        q = self._configuration.q.copy()
        q[self._arm] = arm_positions
        self._configuration.update(q)


class ScriptedExpert:
    """Chooses the next joint target of an episode from the true poses in the simulation."""

    def __init__(self, sim: TabletopSim) -> None:
        """Watch a simulation."""
        self._sim = sim
        self._kinematics = ArmKinematics()

    def act(self, command: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the joint target to be reached at the next action step.

        Args:
            command: The present joint command in the order of JOINTS, rad and m, [7].

        Returns:
            The next joint target, rad and m, [7].
        """
        target = self._sim.task_status().target
        block, block_yaw = self._sim.block_pose(target)
        tool, yaw = self._kinematics.tool_pose(command[:-1])
        opening = self._sim.joint_positions()[-1]
        goal_yaw = yaw + _wrap_quarter(block_yaw - yaw)
        if abs(goal_yaw) > np.pi / 2:
            goal_yaw -= np.sign(goal_yaw) * np.pi / 2
        if self._holds(block):
            goal = np.array([tool[0], tool[1], _LIFT_HEIGHT_M])
            goal_yaw, gripper = yaw, GRIPPER_CLOSED_M
        else:
            distance = float(np.linalg.norm(block[:2] - tool[:2]))
            misfit = max(
                (distance - 0.006) / 0.034,
                (abs(goal_yaw - yaw) - 0.08) / 0.5,
                (0.036 - opening) / 0.010 if distance > 0.012 else 0.0,
            )
            height = _GRASP_HEIGHT_M + _HOVER_ABOVE_GRASP_M * float(np.clip(misfit, 0.0, 1.0))
            goal = np.array([block[0], block[1], height])
            around = distance < 0.010 and tool[2] < _GRASP_HEIGHT_M + 0.006
            gripper = GRIPPER_CLOSED_M if around else GRIPPER_OPEN_M
        position = tool + _approach(goal - tool)
        is_beside = float(np.linalg.norm(block[:2] - tool[:2])) > 0.03
        if is_beside and tool[2] < _clear_height(block):
            position[:2] = tool[:2]
        next_yaw = yaw + float(np.clip(goal_yaw - yaw, -_MAX_YAW_STEP_RAD, _MAX_YAW_STEP_RAD))
        arm = self._kinematics.solve(command[:-1], position, next_yaw)
        step = np.clip(gripper - command[-1], -_MAX_GRIPPER_STEP_M, _MAX_GRIPPER_STEP_M)
        return np.append(arm, command[-1] + step)

    def _holds(self, block: NDArray[np.float64]) -> bool:
        tool, rotation = self._sim.tool_pose()
        offset = rotation.T @ (block - tool)
        is_between = abs(offset[0]) < 0.02 and abs(offset[2]) < 0.02
        return bool(is_between and self._sim.joint_positions()[-1] < BLOCK_SIZE_M / 2 * 1.12)


def _clear_height(block: NDArray[np.float64]) -> float:
    """Return the tool height above which the fingers pass over a block [m]."""
    return float(block[2]) + 0.045


def _approach(offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a step towards an offset [3]: fast when far, gentle when near, never overshooting."""
    distance = float(np.linalg.norm(offset))
    if distance < 1e-9:
        return np.zeros(3)
    length = min(distance, _MAX_STEP_M, max(0.4 * distance, 0.004))
    return offset * (length / distance)


def _wrap_quarter(angle: float) -> float:
    """Wrap an angle to +-45 degrees: a cube looks the same after a quarter turn."""
    return float((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)
