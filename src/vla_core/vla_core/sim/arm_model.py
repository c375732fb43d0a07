# SPDX-License-Identifier: MIT
"""The table-top arm as a MuJoCo model: its URDF with servos and a wrist camera.

A scene attaches one or more of them. Units are metres, radians and seconds; an arm's base frame
has x forward, y left, z up (REP-103).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vla_core.errors import ConfigError

try:
    import mujoco as mujoco
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
MIRROR_JOINT = "gripper_mirror_joint"
HOME = np.array([0.0, 0.11231, 1.56362, 0.0, 1.46566, 0.0, 0.04])
FRICTION = (1.2, 0.01, 0.0001)
_WRIST_CAMERA_FOVY_DEG = 68.0
_GRIPPER_FORCE_N = 20.0
_STIFFNESS = {
    "joint_1": 600.0,
    "joint_2": 900.0,
    "joint_3": 700.0,
    "joint_4": 200.0,
    "joint_5": 200.0,
    "joint_6": 150.0,
}


def attach_arm(
    spec: mujoco.MjSpec, prefix: str, position: Sequence[float] = (0, 0, 0), yaw: float = 0.0
) -> None:
    """Add an arm with its servos and its camera, ``wrist``, to a scene.

    Args:
        spec: The scene.
        prefix: Put before the name of everything that belongs to the arm; not empty.
        position: Where its base stands in the world, m, [3].
        yaw: How it is turned about the vertical, rad.
    """
    arm = mujoco.MjSpec.from_file(str(ASSETS / "tabletop_arm.urdf"))
    for geom in arm.geoms:
        if geom.contype:
            geom.group = 3  # collision shapes are not drawn
            geom.friction = FRICTION
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
    frame = spec.worldbody.add_frame(
        pos=position, quat=[np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
    )
    spec.attach(arm, frame=frame, prefix=prefix)
    for name, kp in _STIFFNESS.items():
        _add_servo(spec, prefix + name, kp=kp, kv=2.0 * 0.9 * np.sqrt(kp * 0.25), force=120.0)
    for name in ("gripper_joint", MIRROR_JOINT):
        _add_servo(spec, prefix + name, kp=1500.0, kv=40.0, force=_GRIPPER_FORCE_N)


def _add_servo(spec: mujoco.MjSpec, joint: str, *, kp: float, kv: float, force: float) -> None:
    """Add a position servo with velocity damping and a force limit to a joint."""
    servo = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    servo.set_to_position(kp=kp, kv=kv)
    servo.forcelimited = True
    servo.forcerange = [-force, force]
