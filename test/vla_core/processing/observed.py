# SPDX-License-Identifier: MIT
"""A robot of two joints and two cameras, as the observation buffer hears it."""

from types import SimpleNamespace

from vla_core.processing.contract import RobotContract
from vla_core.processing.gaps import Gap
from vla_core.processing.observation_buffer import ObservationBuffer
from vla_core.types import Observation

NOW_NS = 1_000_000_000_000
MS = 1_000_000
JOINTS = ["shoulder", "elbow"]


def make_contract(**changes) -> RobotContract:
    limits = {"lower": -2.0, "upper": 2.0, "velocity": 1.0, "acceleration": 5.0}
    size = {"width": 4, "height": 2, "max_age_s": 0.2}
    values = {
        "robot": "two_joints",
        "cameras": {
            "front": {"topic": "front/image", **size},
            "wrist": {"topic": "wrist/image", **size},
        },
        "state": {"topic": "joint_states", "joints": JOINTS, "max_age_s": 0.1},
        "action": {
            "kind": "joint_position",
            "joints": JOINTS,
            "rate_hz": 10.0,
            "max_age_s": 0.6,
        },
        "command": {"rate_hz": 50.0, "output": "joint_trajectory", "topic": "trajectory"},
        "limits": {joint: dict(limits) for joint in JOINTS},
    }
    for section, part in changes.items():
        values[section] = part if section == "cameras" else {**values.get(section, {}), **part}
    return RobotContract.from_dict(values)


def camera_contract(**changes) -> RobotContract:
    camera = {"topic": "front/image", "width": 4, "height": 2, "max_age_s": 0.2, **changes}
    return make_contract(cameras={"front": camera})


def header(age_ms: float) -> SimpleNamespace:
    seconds, nanoseconds = divmod(NOW_NS - round(age_ms * MS), 1_000_000_000)
    return SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds))


def image(age_ms=10, colour=0, width=4, encoding="rgb8") -> SimpleNamespace:
    return SimpleNamespace(
        header=header(age_ms),
        height=2,
        width=width,
        step=width * 3,
        encoding=encoding,
        is_bigendian=0,
        data=bytes([colour]) * (2 * width * 3),
    )


def joint_state(age_ms=5, name=("elbow", "shoulder"), position=(2.0, 1.0)) -> SimpleNamespace:
    return SimpleNamespace(header=header(age_ms), name=list(name), position=list(position))


def make_buffer(front=None, wrist=None, state=None, publishers=1, **contract):
    """Return a buffer with messages, or with those that have these arguments."""
    buffer = ObservationBuffer(make_contract(**contract), lambda topic: publishers)
    for name, frame in {"front": front, "wrist": wrist}.items():
        buffer.put_image(name, _made(image, frame), NOW_NS)
    buffer.put_joint_state(_made(joint_state, state), NOW_NS)
    return buffer


def _made(make, message):
    return message if isinstance(message, SimpleNamespace) else make(**(message or {}))


def gap_of(buffer: ObservationBuffer, now_ns=NOW_NS) -> Gap:
    gap = buffer.observe("pick", now_ns)
    assert isinstance(gap, Gap)
    return gap


def observation_of(buffer: ObservationBuffer, now_ns=NOW_NS) -> Observation:
    observation = buffer.observe("pick", now_ns)
    assert isinstance(observation, Observation), observation
    return observation
