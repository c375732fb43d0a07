# SPDX-License-Identifier: MIT
import numpy as np
import pytest

from vla_core.inference.grippers import BinaryGrippers
from vla_core.processing.contract import RobotContract


def make_grippers(**gripper) -> BinaryGrippers:
    limit = {"lower": -1.0, "upper": 1.0, "velocity": 1.0, "acceleration": 5.0}
    joints = ["arm", "gripper"]
    gripper = {"open": 0.8, "closed": 0.0, "mode": "binary", **gripper}
    contract = RobotContract.from_dict(
        {
            "robot": "gripper",
            "cameras": {"front": {"topic": "image", "width": 8, "height": 8, "max_age_s": 0.2}},
            "state": {"topic": "joint_states", "joints": joints, "max_age_s": 0.1},
            "action": {
                "kind": "joint_position",
                "joints": joints,
                "rate_hz": 10.0,
                "max_age_s": 0.6,
            },
            "command": {"rate_hz": 50.0, "output": "joint_trajectory", "topic": "trajectory"},
            "limits": dict.fromkeys(joints, limit),
            "grippers": {"gripper": gripper},
        }
    )
    return BinaryGrippers(contract)


def decide(grippers, *wishes):
    """Return what becomes of one wish after the other."""
    found = []
    for wish in wishes:
        targets, velocities = np.array([[0.3, wish]]), np.full((1, 2), 0.2)
        grippers.decide(targets, velocities)
        assert targets[0, 0] == 0.3
        assert velocities.tolist() == [[0.2, 0.0]]
        found.append(targets[0, 1])
    return found


def test_gripper_opens_and_closes_only_past_the_threshold_and_its_hysteresis():
    grippers = make_grippers()
    grippers.reset(np.array([0.0, 0.1]))
    wishes = (0.3, 0.47, 0.5, 0.41, 0.33, 0.3, 0.45, 0.9)
    assert decide(grippers, *wishes) == [0.0, 0.0, 0.8, 0.8, 0.8, 0.0, 0.0, 0.8]


def test_gripper_whose_open_position_is_the_lower_one():
    grippers = make_grippers(open=-0.5, closed=0.5)
    grippers.reset(np.array([0.0, 0.5]))
    assert decide(grippers, 0.2, -0.2, 0.05, 0.2) == [0.5, -0.5, -0.5, 0.5]


@pytest.mark.parametrize(("position", "expected"), [(0.7, 0.8), (0.1, 0.0)])
def test_gripper_begins_with_what_it_is_nearer_to(position, expected):
    grippers = make_grippers()
    grippers.reset(np.array([0.0, position]))
    assert decide(grippers, 0.4) == [expected]


def test_only_the_first_of_the_coming_ticks_decides_for_good():
    grippers = make_grippers()
    grippers.reset(np.array([0.0, 0.0]))
    targets = np.array([[0.0, 0.1], [0.0, 0.7], [0.0, 0.4]])
    grippers.decide(targets, np.zeros((3, 2)))
    assert targets[:, 1].tolist() == [0.0, 0.8, 0.8]
    assert decide(grippers, 0.4) == [0.0]


def test_continuous_gripper_is_none_of_these():
    assert not make_grippers(mode="continuous")
    assert make_grippers()
