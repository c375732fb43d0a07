# SPDX-License-Identifier: MIT
"""Forward and inverse kinematics of the table-top arm, by mink."""

from __future__ import annotations

import mink
import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_core.sim.arm_model import ASSETS, JOINTS

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
