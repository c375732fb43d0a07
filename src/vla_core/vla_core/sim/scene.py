# SPDX-License-Identifier: MIT
"""The table-top arm and its blocks as a MuJoCo model, without any environment interface.

The arm is a URDF, attached to a scene with a table, a front camera and three coloured cubes; a
second camera sits at the wrist. The gymnasium environment and the ROS node both step this class.
Units are metres, radians and seconds; the base frame has x forward, y left, z up (REP-103).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError
from vla_core.sim.arm_model import ASSETS, FRICTION, HOME, JOINTS, attach_arm, mujoco
from vla_core.sim.robot_sim import SUCCESS_HEIGHT_M, SUCCESS_HOLD_S, RobotSim
from vla_core.sim.tasks import RENDER_SIZE, TIMESTEP_S, TaskStatus

CAMERAS = ("front", "wrist")
COLOURS = {
    "red": (0.85, 0.12, 0.10, 1.0),
    "green": (0.12, 0.62, 0.20, 1.0),
    "blue": (0.12, 0.25, 0.85, 1.0),
}
BLOCK_SIZE_M = 0.04
BlockPose = tuple[float, float, float]
_ARM = "arm/"
_BLOCK_X_M = (0.26, 0.42)
_BLOCK_Y_M = (-0.18, 0.18)
_MIN_SEPARATION_M = 0.10


INSTRUCTIONS = (
    "pick up the {colour} block",
    "pick the {colour} block up",
    "lift the {colour} block",
    "grab the {colour} block",
    "take the {colour} cube",
    "pick up the {colour} cube",
    "grasp the {colour} cube and lift it",
    "please lift the {colour} cube",
)


def instruction(target: str) -> str:
    """Return the plain instruction that names a block's colour."""
    return INSTRUCTIONS[0].format(colour=target)


def build_scene() -> mujoco.MjSpec:
    """Attach the arm to the scene with the table and add the blocks."""
    spec = mujoco.MjSpec.from_file(str(ASSETS / "tabletop_scene.xml"))
    attach_arm(spec, _ARM)
    half = BLOCK_SIZE_M / 2
    for colour, rgba in COLOURS.items():
        body = spec.worldbody.add_body(name=f"block_{colour}", pos=[0.3, 0.0, half])
        body.add_freejoint()
        body.add_geom(
            name=f"block_{colour}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[half, half, half],
            mass=0.05,
            rgba=rgba,
            friction=FRICTION,
            condim=4,
        )
    spec.option.timestep = TIMESTEP_S
    return spec


class TabletopSim(RobotSim):
    """Places the blocks and judges the task: lift the named block alone.

    Args:
        render_size: Width and height of the camera images in pixels.
    """

    joints: ClassVar[tuple[str, ...]] = JOINTS
    cameras: ClassVar[tuple[str, ...]] = CAMERAS
    targets: ClassVar[tuple[str, ...]] = tuple(COLOURS)
    home: ClassVar[NDArray[np.float64]] = HOME
    time_limit_s: ClassVar[float] = 20.0

    def __init__(self, render_size: int = RENDER_SIZE) -> None:
        super().__init__(
            self._build_scene().compile(),
            arms=(_ARM,),
            cameras={"front": "front", "wrist": _ARM + "wrist"},
            render_size=render_size,
        )
        self._block_qpos = {
            c: self.model.joint(self.model.body(f"block_{c}").jntadr[0]).qposadr[0]
            for c in COLOURS
        }
        self._target = self.targets[0]
        self._success = False
        self._failure = ""
        self.reset(0)

    @classmethod
    def wordings(cls, target: str) -> tuple[str, ...]:
        """Return every instruction that names a block's colour; the first is the plain one."""
        return tuple(wording.format(colour=target) for wording in INSTRUCTIONS)

    def reset(self, seed: int, target: str | None = None) -> str:
        """Put the arm at home and the blocks at random poses.

        Args:
            seed: Decides the poses and, when target is None, the target.
            target: One of the targets.

        Returns:
            The target.

        Raises:
            ConfigError: If the target does not exist.
        """
        if target is not None and target not in self.targets:
            available = ", ".join(map(repr, self.targets))
            raise ConfigError(f"target {target!r} is unknown; available: {available}.")
        rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        self.set_joint_positions(HOME)
        for colour, (x, y, yaw) in zip(COLOURS, self._draw_block_poses(rng), strict=True):
            address = self._block_qpos[colour]
            self.data.qpos[address : address + 3] = x, y, BLOCK_SIZE_M / 2
            self.data.qpos[address + 3 : address + 7] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        drawn = str(rng.choice(list(self.targets)))
        self._target = target or drawn
        self._success = False
        self._failure = ""
        self._start_judging()
        mujoco.mj_forward(self.model, self.data)
        return self._target

    def block_pose(self, colour: str) -> tuple[NDArray[np.float64], float]:
        """Return a block's centre [3] in m and its yaw in rad, in the base frame."""
        body = self.data.body(f"block_{colour}")
        rotation = body.xmat.reshape(3, 3)
        return body.xpos.copy(), float(np.arctan2(rotation[1, 0], rotation[0, 0]))

    def set_block_pose(self, colour: str, position: NDArray[np.float64], yaw: float) -> None:
        """Place a block's centre [3] in m with a yaw in rad, at rest."""
        address = self._block_qpos[colour]
        self.data.qpos[address : address + 3] = position
        self.data.qpos[address + 3 : address + 7] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        mujoco.mj_forward(self.model, self.data)

    def next_colour(self, target: str) -> str:
        """Return the block that a target asks for as things stand."""
        return target

    def render_segmentation(self, camera: str) -> NDArray[np.int32]:
        """Render which block each pixel shows.

        Returns:
            Index into COLOURS, or -1 for anything else, [render_size, render_size].
        """
        renderer = self._get_renderer()
        renderer.enable_segmentation_rendering()
        try:
            geom_ids = self._draw(camera)[..., 0]
        finally:
            renderer.disable_segmentation_rendering()
        blocks = np.full(geom_ids.shape, -1, dtype=np.int32)
        for index, colour in enumerate(COLOURS):
            blocks[geom_ids == self.model.geom(f"block_{colour}").id] = index
        return blocks

    def task_status(self) -> TaskStatus:
        """Return the progress of the task, as judged at every physics step."""
        return TaskStatus(
            target=self._target,
            lifted_m=self._lifted(),
            success=self._success,
            failure=self._failure,
        )

    def _lifted(self) -> dict[str, float]:
        return {
            c: float(self.data.qpos[a + 2]) - BLOCK_SIZE_M / 2 for c, a in self._block_qpos.items()
        }

    def _build_scene(self) -> mujoco.MjSpec:
        return build_scene()

    def _draw_block_poses(self, rng: np.random.Generator) -> list[BlockPose]:
        return draw_block_poses(rng, _BLOCK_X_M, _BLOCK_Y_M)

    def _start_judging(self) -> None:
        self._held_s = 0.0

    def _judge(self, elapsed_s: float) -> None:
        lifted = self._lifted()
        others = [c for c, h in lifted.items() if c != self._target and h >= SUCCESS_HEIGHT_M]
        if others and not self._failure:
            self._failure = f"lifted the {others[0]} block"
        is_up = lifted[self._target] >= SUCCESS_HEIGHT_M
        self._held_s = self._held_s + elapsed_s if is_up and not others else 0.0
        self._success = self._success or (self._held_s >= SUCCESS_HOLD_S and not self._failure)


def draw_block_poses(
    rng: np.random.Generator, x_m: tuple[float, float], y_m: tuple[float, float]
) -> list[BlockPose]:
    """Draw (x, y, yaw) for each block so that the open gripper fits beside every neighbour.

    Args:
        rng: Source of the draws.
        x_m: Least and greatest x, m.
        y_m: Least and greatest y, m.
    """
    while True:
        xy = np.stack([rng.uniform(*x_m, len(COLOURS)), rng.uniform(*y_m, len(COLOURS))], axis=1)
        gaps = [np.linalg.norm(xy[i] - xy[j]) for i in range(len(xy)) for j in range(i)]
        if min(gaps) >= _MIN_SEPARATION_M:
            yaw = rng.uniform(-np.pi / 4, np.pi / 4, len(COLOURS))
            return [(float(x), float(y), float(a)) for (x, y), a in zip(xy, yaw, strict=True)]
