# SPDX-License-Identifier: MIT
"""What every simulated robot shares: commands in, joint states and camera images out.

A scene derives from `RobotSim`, places its objects in ``reset`` and judges its task after every
step. The gymnasium environments and the ROS node step these classes.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError, ShapeError
from vla_core.sim.arm_model import JOINTS, MIRROR_JOINT, mujoco
from vla_core.sim.tasks import RENDER_SIZE, TIMESTEP_S

SUCCESS_HEIGHT_M = 0.05
SUCCESS_HOLD_S = 0.5


class RobotSim(ABC):
    """Steps the physics and renders the cameras of a robot with one arm or more.

    Args:
        model: Scene with its arms.
        arms: Prefix of each arm's names in the model, in the order of the joints.
        cameras: Name in the model of each camera.
        render_size: Width and height of the camera images in pixels.
    """

    joints: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        arms: Sequence[str],
        cameras: Mapping[str, str],
        render_size: int = RENDER_SIZE,
    ) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.render_size = render_size
        self._camera = dict(cameras)
        self._renderer: mujoco.Renderer | None = None
        names = [arm + name for arm in arms for name in JOINTS]
        handles = [model.joint(name) for name in names]
        self._qpos = np.array([joint.qposadr[0] for joint in handles])
        self._qvel = np.array([joint.dofadr[0] for joint in handles])
        self._ctrl = np.array([model.actuator(name).id for name in names])
        self.lower = np.array([joint.range[0] for joint in handles])
        self.upper = np.array([joint.range[1] for joint in handles])
        self._gripper = np.arange(len(arms)) * len(JOINTS) + len(JOINTS) - 1
        mirrors = [arm + MIRROR_JOINT for arm in arms]
        self._mirror_qpos = np.array([model.joint(name).qposadr[0] for name in mirrors])
        self._mirror_ctrl = np.array([model.actuator(name).id for name in mirrors])
        self._tool = [model.body(arm + "tool0").id for arm in arms]
        bases = [model.body(arm + "base_link").id for arm in arms]
        roots = model.body_rootid[model.geom_bodyid]
        self._arm_of_geom = np.full(model.ngeom, -1)
        for arm, base in enumerate(bases):
            self._arm_of_geom[roots == base] = arm

    @abstractmethod
    def _judge(self, elapsed_s: float) -> None:
        """Look at the task after a step."""

    def set_joint_positions(self, positions: NDArray[np.float64]) -> None:
        """Place the arms at rest at the given joint positions [A]; their servos hold them."""
        self.data.qpos[self._qpos] = positions
        self.data.qpos[self._mirror_qpos] = positions[self._gripper]
        self.data.qvel[:] = 0.0
        self._set_servos(positions)
        mujoco.mj_forward(self.model, self.data)

    def step(self, command_positions: NDArray[np.float64], n: int = 1) -> None:
        """Advance the physics by n time steps of TIMESTEP_S towards a joint command.

        Args:
            command_positions: Servo targets in the order of ``joints``, rad and m, [A].
            n: Number of time steps.

        Raises:
            ShapeError: If the command is not [A] and finite.
        """
        command = np.asarray(command_positions, dtype=np.float64)
        if command.shape != (len(self.joints),) or not np.isfinite(command).all():
            raise ShapeError(
                f"command_positions must be [{len(self.joints)}] and finite, got {command!r}."
            )
        self._set_servos(np.clip(command, self.lower, self.upper))
        mujoco.mj_step(self.model, self.data, n)
        self._judge(n * TIMESTEP_S)

    def joint_positions(self) -> NDArray[np.float64]:
        """Return the measured joint positions in the order of ``joints``, rad and m, [A]."""
        return self.data.qpos[self._qpos]

    def joint_velocities(self) -> NDArray[np.float64]:
        """Return the measured joint velocities, rad/s and m/s, [A]."""
        return self.data.qvel[self._qvel]

    def tool_pose(self, arm: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return an arm's tool frame in the world: position [3] in m, rotation [3, 3]."""
        tool = self._tool[arm]
        return self.data.xpos[tool].copy(), self.data.xmat[tool].reshape(3, 3).copy()

    def arm_in_contact(self) -> bool:
        """Whether an arm touches anything but itself as it stands."""
        arms = self._arm_of_geom[self.data.contact.geom[: self.data.ncon]]
        return bool((arms[:, 0] != arms[:, 1]).any())

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Render a camera.

        Returns:
            RGB image, [render_size, render_size, 3].

        Raises:
            ConfigError: There is no such camera, or OpenGL does not work.
        """
        return self._draw(camera)

    def vertical_fov_rad(self, camera: str) -> float:
        """Return the full vertical field of view of a camera."""
        return float(np.deg2rad(self.model.camera(self._camera[camera]).fovy[0]))

    def close(self) -> None:
        """Release the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _draw(self, camera: str) -> NDArray[np.uint8]:
        if camera not in self._camera:
            raise ConfigError(
                f"camera {camera!r} does not exist; available: {', '.join(self._camera)}."
            )
        renderer = self._get_renderer()
        renderer.update_scene(self.data, camera=self._camera[camera])
        return renderer.render()

    def _set_servos(self, positions: NDArray[np.float64]) -> None:
        self.data.ctrl[self._ctrl] = positions
        self.data.ctrl[self._mirror_ctrl] = positions[self._gripper]

    def _get_renderer(self) -> mujoco.Renderer:
        if self._renderer is None:
            _load_triton()
            try:
                self._renderer = mujoco.Renderer(self.model, self.render_size, self.render_size)
            except Exception as error:
                raise ConfigError(
                    f"cameras cannot be rendered with MUJOCO_GL={os.environ['MUJOCO_GL']!r}: "
                    f"{error}. Set MUJOCO_GL to 'egl', 'osmesa' or 'glfw' before mujoco is "
                    "imported; 'egl' needs Mesa's library (libegl1)."
                ) from error
        return self._renderer


@cache
def _load_triton() -> None:
    """Load Triton's library, where it is installed, before Mesa loads the LLVM that it draws with.

    PyTorch imports Triton with the first optimizer, and beside an LLVM that came before its own
    that crashes (Triton 3.7, Mesa's EGL).
    """
    package = importlib.util.find_spec("triton")
    if package is not None and package.origin is not None:
        library = Path(package.origin).with_name("_C") / "libtriton.so"
        if library.is_file():
            ctypes.CDLL(str(library))
