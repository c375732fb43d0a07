# SPDX-License-Identifier: MIT
"""Small real bags of a robot with two joints and two cameras, written with rosbags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_core.processing.contract import RobotContract

STORE = get_typestore(Stores.ROS2_JAZZY)
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
JOINTS = ("shoulder", "elbow")
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
JOINT_STATE = "sensor_msgs/msg/JointState"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
STRING, BOOL = "std_msgs/msg/String", "std_msgs/msg/Bool"


class Sent(NamedTuple):
    """One message of a bag: when it was received, where, and what it says."""

    at_ms: float
    topic: str
    kind: str
    message: Any


def make_contract(**changes: Any) -> RobotContract:
    limits = {"lower": -2.0, "upper": 2.0, "velocity": 1.0, "acceleration": 5.0}
    camera = {"width": 16, "height": 8, "max_age_s": 0.25}
    values: dict[str, Any] = {
        "robot": "two_joints",
        "cameras": {
            "front": {"topic": "front/image", **camera},
            "wrist": {"topic": "wrist/image", **camera},
        },
        "state": {"topic": "joint_states", "joints": JOINTS, "max_age_s": 0.1},
        "action": {"kind": "joint_position", "joints": JOINTS, "rate_hz": 10.0, "max_age_s": 0.6},
        "command": {"rate_hz": 50.0, "output": "joint_trajectory", "topic": "arm/trajectory"},
        "limits": {joint: dict(limits) for joint in JOINTS},
    }
    for section, part in changes.items():
        is_whole = section in ("cameras", "inputs", "kinematics")
        values[section] = part if is_whole else {**values.get(section, {}), **part}
    return RobotContract.from_dict(values)


def make(kind: str, **fields: Any) -> Any:
    return STORE.types[kind](**fields)


def time_of(nanoseconds: int, kind: str = "builtin_interfaces/msg/Time") -> Any:
    seconds, nanoseconds = divmod(nanoseconds, 1_000_000_000)
    return make(kind, sec=seconds, nanosec=nanoseconds)


def header(at_ms: float) -> Any:
    return make("std_msgs/msg/Header", stamp=time_of(START_NS + round(at_ms * MS)), frame_id="")


def image(at_ms: float, value: int, width: int = 16, height: int = 8) -> Any:
    pixels = np.full((height, width, 3), value % 256, np.uint8)
    pixels[:, : width // 2] = (value * 7) % 256
    return make(
        IMAGE,
        header=header(at_ms),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=width * 3,
        data=pixels.ravel(),
    )


def joint_state(at_ms: float, position: dict[str, float]) -> Any:
    return make(
        JOINT_STATE,
        header=header(at_ms),
        name=list(position),
        position=np.array(list(position.values()), np.float64),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )


def trajectory(position: dict[str, float], after_ms: float = 20.0) -> Any:
    point = make(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=np.array(list(position.values()), np.float64),
        velocities=np.zeros(0),
        accelerations=np.zeros(0),
        effort=np.zeros(0),
        time_from_start=time_of(round(after_ms * MS), "builtin_interfaces/msg/Duration"),
    )
    unstamped = make("std_msgs/msg/Header", stamp=time_of(0), frame_id="")
    return make(TRAJECTORY, header=unstamped, joint_names=list(position), points=[point])


def text(words: str) -> Any:
    return make(STRING, data=words)


def joints_at(at_ms: float) -> dict[str, float]:
    """Where the joints are at a time: they move evenly, so that interpolation is exact."""
    return {"elbow": 1.0 - at_ms * 1e-4, "shoulder": at_ms * 2e-4}


def robot_messages(duration_ms: float = 1500, start_ms: float = 0) -> Iterator[Sent]:
    """Yield what a robot sends: cameras at 20 Hz, 8 ms late, joints at 100 Hz, commands at 50."""
    end_ms = start_ms + duration_ms
    for at in np.arange(start_ms, end_ms, 50.0).tolist():
        yield Sent(at + 8, "/robot/front/image", IMAGE, image(at, round(at / 50)))
        yield Sent(at + 10, "/robot/wrist/image", IMAGE, image(at, round(at / 50) + 90))
    for at in np.arange(start_ms, end_ms, 10.0).tolist():
        yield Sent(at + 1, "/robot/joint_states", JOINT_STATE, joint_state(at, joints_at(at)))
    for at in np.arange(start_ms, end_ms, 20.0).tolist():
        target = trajectory(joints_at(at + 20))
        yield Sent(at, "/robot/arm/trajectory", TRAJECTORY, target)


def write_bag(
    path: Path,
    messages: Any,
    *,
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode | None = None,
    notes: str = "",
    change: Callable[[bytes, Sent], bytes] = lambda data, sent: data,
) -> Path:
    """Write a bag; ``change`` may spoil the bytes of a message."""
    writer = Writer(path, version=9, storage_plugin=storage)
    if compression is not None:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        if notes:
            writer.set_custom_data("vla_ros", notes)
        connections: dict[tuple[str, str], Any] = {}
        for sent in sorted(messages, key=lambda sent: sent.at_ms):
            key = (sent.topic, sent.kind)
            if key not in connections:
                connections[key] = writer.add_connection(*key, typestore=STORE)
            data = change(bytes(STORE.serialize_cdr(sent.message, sent.kind)), sent)
            writer.write(connections[key], START_NS + round(sent.at_ms * MS), data)
    return path
