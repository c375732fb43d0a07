# SPDX-License-Identifier: MIT
"""An arm of two joints under a command stream."""

import itertools

import numpy as np
import pytest

from vla_core.inference.command_stream import CommandStream
from vla_core.processing.contract import RobotContract
from vla_core.types import ActionChunk

JOINTS = ("shoulder", "elbow")
HOME = np.array([0.0, 0.5])


def make_contract(command_hz=50.0, **action) -> RobotContract:
    limits = {"lower": -2.0, "upper": 2.0, "velocity": 1.5, "acceleration": 6.0}
    action = {"kind": "joint_position", "rate_hz": 10.0, "max_age_s": 0.6, **action}
    return RobotContract.from_dict(
        {
            "robot": "two_joints",
            "cameras": {"front": {"topic": "image", "width": 8, "height": 8, "max_age_s": 0.2}},
            "state": {"topic": "joint_states", "joints": list(JOINTS), "max_age_s": 0.1},
            "action": {"joints": list(JOINTS), **action},
            "command": {
                "rate_hz": command_hz,
                "output": "joint_trajectory",
                "topic": "trajectory",
            },
            "limits": {joint: dict(limits) for joint in JOINTS},
        }
    )


def make_chunk(stamp_ns: int, targets=None, **changes) -> ActionChunk:
    actions = np.linspace(HOME, HOME + 0.5, 16) if targets is None else np.asarray(targets, float)
    values = {
        "actions": actions,
        "policy_actions": actions.astype(np.float32),
        "joints": JOINTS,
        "dt_s": 0.1,
        "stamp_ns": stamp_ns,
        "checkpoint_id": "test",
        "instruction": "move",
    }
    return ActionChunk(**{**values, **changes})


class Arm:
    """A stream with an arm that follows its plan perfectly, ticked on a clock of its own."""

    def __init__(self, command_hz=50.0, **settings):
        self.stream = CommandStream(make_contract(command_hz), **settings)
        self.tick_ns = round(1e9 / command_hz)
        self.now_ns = 1_000_000_000
        self.measured = HOME.copy()
        self.sequence = itertools.count(1)

    def measure(self):
        self.stream.put_joint_state(self.measured.copy(), self.now_ns)

    def give_chunk(self, targets=None, epoch=1, age_s=0.0, **changes):
        chunk = make_chunk(self.now_ns - round(age_s * 1e9), targets, **changes)
        self.stream.put_chunk(chunk, sequence=next(self.sequence), epoch=epoch, now_ns=self.now_ns)

    def tick(self, num=1, measures=True):
        for _ in range(num):
            if measures:
                self.measure()
            tick = self.stream.tick(self.now_ns)
            self.now_ns += self.tick_ns
            if tick.plan is not None:
                self.measured = tick.plan[0][0]
        return tick


@pytest.fixture(scope="session")
def make_arm():
    """The class of such arms; its arguments are those of the stream."""
    return Arm


@pytest.fixture
def arm() -> Arm:
    return Arm()


@pytest.fixture
def moving(arm) -> Arm:
    arm.measure()
    arm.give_chunk(np.linspace(HOME, HOME + 1.0, 16))
    arm.tick(10)
    return arm
