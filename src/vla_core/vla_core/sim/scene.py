# SPDX-License-Identifier: MIT
"""The table-top arm and its blocks as a MuJoCo model, without any environment interface.

The arm is a URDF, attached to a scene with a table, a front camera and three coloured cubes; a
second camera sits at the wrist. The gymnasium environment and the ROS node both step this class.
Units are metres, radians and seconds; the base frame has x forward, y left, z up (REP-103).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError, ShapeError
from vla_core.sim.tasks import RENDER_SIZE, TIMESTEP_S, TaskStatus

try:
    import mujoco
except ModuleNotFoundError:
    raise
except (AttributeError, ImportError, RuntimeError) as error:
    # MuJoCo loads the OpenGL library when it is imported.
    raise ConfigError(
        f"mujoco cannot be loaded with MUJOCO_GL={os.environ.get('MUJOCO_GL')!r}: {error}. Set "
        "MUJOCO_GL to 'egl', 'osmesa' or 'glfw', and install its library: libegl1 for 'egl', "
        "libosmesa6 for 'osmesa'."
    ) from error

ASSETS = Path(__file__).parent / "assets"
JOINTS = ("joint_1", "joint_2", "joint_3", "joint_4", "joint_5", "joint_6", "gripper_joint")
CAMERAS = ("front", "wrist")
COLOURS = {
    "red": (0.85, 0.12, 0.10, 1.0),
    "green": (0.12, 0.62, 0.20, 1.0),
    "blue": (0.12, 0.25, 0.85, 1.0),
}
HOME = np.array([0.0, 0.11231, 1.56362, 0.0, 1.46566, 0.0, 0.04])
BLOCK_SIZE_M = 0.04
SUCCESS_HEIGHT_M = 0.05
SUCCESS_HOLD_S = 0.5
BlockPose = tuple[float, float, float]
_ARM = "arm/"
_BLOCK_X_M = (0.26, 0.42)
_BLOCK_Y_M = (-0.18, 0.18)
_MIN_SEPARATION_M = 0.10
_WRIST_CAMERA_FOVY_DEG = 68.0
_GRIPPER_FORCE_N = 20.0


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
    """Load the arm's URDF, attach it to the scene, add blocks, servos and the wrist camera."""
    spec = mujoco.MjSpec.from_file(str(ASSETS / "tabletop_scene.xml"))
    arm = mujoco.MjSpec.from_file(str(ASSETS / "tabletop_arm.urdf"))
    for geom in arm.geoms:
        if geom.contype:
            geom.group = 3  # collision shapes are not drawn
            geom.friction = [1.2, 0.01, 0.0001]
            geom.condim = 4
    for body in arm.bodies:
        body.gravcomp = 1.0
    for joint in arm.joints:
        is_finger = joint.type == mujoco.mjtJoint.mjJNT_SLIDE
        joint.armature = 0.05
        joint.damping = np.full(3, 5.0 if is_finger else 1.0)
    arm.body("wrist_camera_link").add_camera(
        name="wrist", fovy=_WRIST_CAMERA_FOVY_DEG, quat=[0.0, 0.70710678, 0.70710678, 0.0]
    )
    spec.attach(arm, frame=spec.worldbody.add_frame(), prefix=_ARM)
    stiffness = {
        "joint_1": 600,
        "joint_2": 900,
        "joint_3": 700,
        "joint_4": 200,
        "joint_5": 200,
        "joint_6": 150,
    }
    for name, kp in stiffness.items():
        _add_servo(spec, name, kp=float(kp), kv=2.0 * 0.9 * np.sqrt(kp * 0.25), force=120.0)
    for name in ("gripper_joint", "gripper_mirror_joint"):
        _add_servo(spec, name, kp=1500.0, kv=40.0, force=_GRIPPER_FORCE_N)
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
            friction=[1.2, 0.01, 0.0001],
            condim=4,
        )
    spec.option.timestep = TIMESTEP_S
    return spec


def _add_servo(spec: mujoco.MjSpec, joint: str, *, kp: float, kv: float, force: float) -> None:
    """Add a position servo with velocity damping and a force limit to a joint of the arm."""
    servo = spec.add_actuator(name=joint, target=_ARM + joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    servo.set_to_position(kp=kp, kv=kv)
    servo.forcelimited = True
    servo.forcerange = [-force, force]


class TabletopSim:
    """Steps the physics, renders the cameras and judges the task: lift the named block alone."""

    joints: ClassVar[tuple[str, ...]] = JOINTS
    cameras: ClassVar[tuple[str, ...]] = CAMERAS
    targets: ClassVar[tuple[str, ...]] = tuple(COLOURS)
    home: ClassVar[NDArray[np.float64]] = HOME
    time_limit_s: ClassVar[float] = 20.0

    def __init__(self, render_size: int = RENDER_SIZE) -> None:
        """Build the model; the renderer is created at the first render.

        Args:
            render_size: Width and height of the camera images in pixels.
        """
        self.model = self._build_scene().compile()
        self.data = mujoco.MjData(self.model)
        self.render_size = render_size
        self._renderer: mujoco.Renderer | None = None
        joints = [self.model.joint(_ARM + name) for name in JOINTS]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._qvel = np.array([joint.dofadr[0] for joint in joints])
        self._mirror_qpos = self.model.joint(_ARM + "gripper_mirror_joint").qposadr[0]
        self.lower = np.array([joint.range[0] for joint in joints])
        self.upper = np.array([joint.range[1] for joint in joints])
        self._ctrl = np.array([self.model.actuator(name).id for name in JOINTS])
        self._mirror_ctrl = self.model.actuator("gripper_mirror_joint").id
        self._block_qpos = {
            c: self.model.joint(self.model.body(f"block_{c}").jntadr[0]).qposadr[0]
            for c in COLOURS
        }
        self._camera = {"front": "front", "wrist": _ARM + "wrist"}
        self._tool = self.model.body(_ARM + "tool0").id
        roots = self.model.body_rootid[self.model.geom_bodyid]
        self._is_arm_geom = roots == self.model.body(_ARM + "base_link").id
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

    def set_joint_positions(self, positions: NDArray[np.float64]) -> None:
        """Place the arm at rest at the given joint positions [7] and let its servos hold them."""
        self.data.qpos[self._qpos] = positions
        self.data.qpos[self._mirror_qpos] = positions[-1]
        self.data.qvel[:] = 0.0
        self.data.ctrl[self._ctrl] = positions
        self.data.ctrl[self._mirror_ctrl] = positions[-1]
        mujoco.mj_forward(self.model, self.data)

    def step(self, command_positions: NDArray[np.float64], n: int = 1) -> None:
        """Advance the physics by n time steps of TIMESTEP_S towards a joint command.

        Args:
            command_positions: Servo targets in the order of JOINTS, rad and m, [7].
            n: Number of time steps.

        Raises:
            ShapeError: If the command is not [7] and finite.
        """
        command = np.asarray(command_positions, dtype=np.float64)
        if command.shape != (len(JOINTS),) or not np.isfinite(command).all():
            raise ShapeError(
                f"command_positions must be [{len(JOINTS)}] and finite, got {command!r}."
            )
        command = np.clip(command, self.lower, self.upper)
        self.data.ctrl[self._ctrl] = command
        self.data.ctrl[self._mirror_ctrl] = command[-1]
        mujoco.mj_step(self.model, self.data, n)
        self._judge(n * TIMESTEP_S)

    def joint_positions(self) -> NDArray[np.float64]:
        """Return the measured joint positions in the order of JOINTS, rad and m, [7]."""
        return self.data.qpos[self._qpos]

    def joint_velocities(self) -> NDArray[np.float64]:
        """Return the measured joint velocities in the order of JOINTS, rad/s and m/s, [7]."""
        return self.data.qvel[self._qvel]

    def tool_pose(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the tool frame in the base frame: position [3] in m, rotation [3, 3]."""
        return self.data.xpos[self._tool].copy(), self.data.xmat[self._tool].reshape(3, 3).copy()

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

    def arm_in_contact(self) -> bool:
        """Whether the arm touches the table or a block as it stands."""
        geoms = self.data.contact.geom[: self.data.ncon]
        return bool((self._is_arm_geom[geoms].sum(axis=1) == 1).any())

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Render one of CAMERAS.

        Returns:
            RGB image, [render_size, render_size, 3].
        """
        return self._draw(camera)

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

    def vertical_fov_rad(self, camera: str) -> float:
        """Return the full vertical field of view of one of CAMERAS."""
        return float(np.deg2rad(self.model.camera(self._camera[camera]).fovy[0]))

    def task_status(self) -> TaskStatus:
        """Return the progress of the task, as judged at every physics step."""
        return TaskStatus(
            target=self._target,
            lifted_m=self._lifted(),
            success=self._success,
            failure=self._failure,
        )

    def close(self) -> None:
        """Release the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _draw(self, camera: str) -> NDArray[np.uint8]:
        if camera not in self._camera:
            raise ConfigError(
                f"camera {camera!r} does not exist; available: {', '.join(CAMERAS)}."
            )
        renderer = self._get_renderer()
        renderer.update_scene(self.data, camera=self._camera[camera])
        return renderer.render()

    def _get_renderer(self) -> mujoco.Renderer:
        if self._renderer is None:
            try:
                self._renderer = mujoco.Renderer(self.model, self.render_size, self.render_size)
            except Exception as error:
                raise ConfigError(
                    f"cameras cannot be rendered with MUJOCO_GL={os.environ['MUJOCO_GL']!r}: "
                    f"{error}. Set MUJOCO_GL to 'egl', 'osmesa' or 'glfw' before mujoco is "
                    "imported; 'egl' needs Mesa's library (libegl1)."
                ) from error
        return self._renderer

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
