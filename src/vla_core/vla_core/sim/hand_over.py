# SPDX-License-Identifier: MIT
"""Two arms that face each other: the left one picks up a bar and hands it to the right one.

The world has x forward, y left and z up (REP-103), the table top at 0 and the operator at -x. The
left arm stands at +y and looks to the right, the right arm stands at -y and looks to the left.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError
from vla_core.sim.arm_model import ASSETS, FRICTION, HOME, JOINTS, attach_arm, mujoco
from vla_core.sim.robot_sim import SUCCESS_HEIGHT_M, SUCCESS_HOLD_S, RobotSim
from vla_core.sim.tasks import RENDER_SIZE, TIMESTEP_S, TaskStatus

ARMS = ("left_", "right_")
BASE_POSITIONS_M = ((0.0, 0.40, 0.0), (0.0, -0.40, 0.0))
BASE_YAWS_RAD = (-np.pi / 2, np.pi / 2)
BAR_LENGTH_M = 0.20
BAR_WIDTH_M = 0.04
_RECEIVED_Y_M = -0.05
_BAR_X_M = (-0.12, 0.12)
_BAR_Y_M = (0.03, 0.13)
_BAR_YAW_RAD = 0.5
_LEFT_COLOUR = (0.85, 0.12, 0.10, 1.0)
_RIGHT_COLOUR = (0.12, 0.25, 0.85, 1.0)
_CAMERA_POSITION_M = (-0.60, 0.0, 0.60)
_CAMERA_TARGET_M = (0.02, 0.0, 0.12)
_CAMERA_FOVY_DEG = 48.0


def build_model() -> mujoco.MjModel:
    """Attach both arms to the scene with the table and add the bar."""
    spec = mujoco.MjSpec.from_file(str(ASSETS / "tabletop_scene.xml"))
    # Two arms have many round links; more facets double the time of a frame and are not seen.
    quality = spec.visual.quality
    quality.numslices, quality.numstacks, quality.numquads = 16, 1, 2
    table = spec.geom("table")
    table.pos, table.size = [0.0, 0.0, -0.02], [0.35, 0.50, 0.02]
    camera = spec.camera("front")
    backwards = np.subtract(_CAMERA_POSITION_M, _CAMERA_TARGET_M)
    camera.pos, camera.fovy = _CAMERA_POSITION_M, _CAMERA_FOVY_DEG
    camera.alt.xyaxes = [0.0, -1.0, 0.0, backwards[2], 0.0, -backwards[0]]
    for arm, position, yaw in zip(ARMS, BASE_POSITIONS_M, BASE_YAWS_RAD, strict=True):
        attach_arm(spec, arm, position, yaw)
    half = BAR_WIDTH_M / 2
    bar = spec.worldbody.add_body(name="bar", pos=[0.0, 0.0, half])
    bar.add_freejoint(name="bar")
    for end, rgba in ((-1, _LEFT_COLOUR), (1, _RIGHT_COLOUR)):
        bar.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[end * BAR_LENGTH_M / 4, 0.0, 0.0],
            size=[BAR_LENGTH_M / 4, half, half],
            mass=0.03,
            rgba=rgba,
            friction=FRICTION,
            condim=4,
        )
    spec.option.timestep = TIMESTEP_S
    return spec.compile()


class HandOverSim(RobotSim):
    """Places the bar within reach of the left arm and judges whether the right one got it.

    The task is done when the right arm alone has held the bar in its half of the table, with
    nothing else touching it, SUCCESS_HEIGHT_M up for SUCCESS_HOLD_S. It cannot be done any more
    when the bar has fallen from the table.

    Args:
        render_size: Width and height of the camera images in pixels.
    """

    joints: ClassVar[tuple[str, ...]] = tuple(arm + name for arm in ARMS for name in JOINTS)
    cameras: ClassVar[tuple[str, ...]] = ("front", "left_wrist", "right_wrist")
    targets: ClassVar[tuple[str, ...]] = ("bar",)
    home: ClassVar[NDArray[np.float64]] = np.tile(HOME, len(ARMS))
    time_limit_s: ClassVar[float] = 20.0

    def __init__(self, render_size: int = RENDER_SIZE) -> None:
        super().__init__(
            build_model(),
            arms=ARMS,
            cameras={name: name for name in self.cameras},
            render_size=render_size,
        )
        self._bar = self.model.body("bar").id
        self._bar_qpos = self.model.joint("bar").qposadr[0]
        self._is_bar_geom = self.model.geom_bodyid == self._bar
        self.reset(0)

    @classmethod
    def wordings(cls, target: str) -> tuple[str, ...]:
        """Return every instruction; the first is the plain one."""
        return (
            f"hand the {target} over",
            f"hand over the {target}",
            f"pass the {target} to the right arm",
            f"give the {target} to the right arm",
            f"pick up the {target} and hand it over",
            f"hand the {target} from the left arm to the right arm",
        )

    def reset(self, seed: int, target: str | None = None) -> str:
        """Put the arms at home and the bar at a random pose.

        Args:
            seed: Decides the pose.
            target: 'bar' or None.

        Returns:
            'bar'.

        Raises:
            ConfigError: If the target is anything else.
        """
        if target is not None and target not in self.targets:
            raise ConfigError(
                f"target {target!r} does not exist; available: {', '.join(self.targets)}."
            )
        rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        self.set_joint_positions(self.home)
        position = np.array([rng.uniform(*_BAR_X_M), rng.uniform(*_BAR_Y_M), BAR_WIDTH_M / 2])
        self.set_bar_pose(position, rng.uniform(-_BAR_YAW_RAD, _BAR_YAW_RAD))
        self._held_s = 0.0
        self._success = False
        self._failure = ""
        return self.targets[0]

    def bar_pose(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the bar in the world: centre [3] in m, rotation [3, 3].

        Its x axis points from the end of the left arm to the end of the right arm.
        """
        bar = self.data.body("bar")
        return bar.xpos.copy(), bar.xmat.reshape(3, 3).copy()

    def set_bar_pose(self, position: NDArray[np.float64], yaw: float) -> None:
        """Place the bar's centre [3] in m, level and at rest.

        Args:
            position: Its centre in the world, m, [3].
            yaw: How it is turned about the vertical, rad; 0 points from arm to arm.
        """
        angle = BASE_YAWS_RAD[0] + yaw
        address = self._bar_qpos
        self.data.qpos[address : address + 3] = position
        self.data.qpos[address + 3 : address + 7] = np.cos(angle / 2), 0, 0, np.sin(angle / 2)
        mujoco.mj_forward(self.model, self.data)

    def bar_touches(self) -> set[int]:
        """Return what touches the bar: the numbers of arms, and -1 for the table."""
        geoms = self.data.contact.geom[: self.data.ncon]
        is_bar = self._is_bar_geom[geoms]
        others = geoms[is_bar.any(axis=1)][~is_bar[is_bar.any(axis=1)]]
        return set(self._arm_of_geom[others].tolist())

    def task_status(self) -> TaskStatus:
        """Return the progress of the task, as judged at every physics step."""
        return TaskStatus(
            target=self.targets[0],
            lifted_m={"bar": self._lifted()},
            success=self._success,
            failure=self._failure,
        )

    def _lifted(self) -> float:
        return float(self.data.xpos[self._bar, 2]) - BAR_WIDTH_M / 2

    def _judge(self, elapsed_s: float) -> None:
        lifted = self._lifted()
        if lifted < -BAR_WIDTH_M and not self._failure:
            self._failure = "dropped the bar from the table"
        is_there = lifted >= SUCCESS_HEIGHT_M and self.data.xpos[self._bar, 1] <= _RECEIVED_Y_M
        is_held = is_there and self.bar_touches() == {ARMS.index("right_")}
        self._held_s = self._held_s + elapsed_s if is_held else 0.0
        self._success = self._success or (self._held_s >= SUCCESS_HOLD_S and not self._failure)
