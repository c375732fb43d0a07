# SPDX-License-Identifier: MIT
"""A contract compared with a URDF; the simulated arm is the example."""

from dataclasses import replace
from importlib.resources import files

import pytest

from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.contract_check import check_contract, stricter
from vla_core.processing.urdf import parse_urdf

URDF = files("vla_core").joinpath("sim/assets/tabletop_arm.urdf").read_text(encoding="utf-8")
KINEMATICS = {"urdf": "arm.urdf", "base_link": "base_link", "tip_link": "tool0"}


@pytest.fixture
def data():
    return load_contract("sim").to_dict()


def check(data, urdf=URDF):
    return check_contract(RobotContract.from_dict(data), parse_urdf(urdf))


def test_the_simulated_arm_fits_with_its_tool(data):
    result = check({**data, "kinematics": KINEMATICS})
    assert (result.contradictions, result.notes) == ((), ())


def test_a_joint_that_the_urdf_lacks_is_a_contradiction_that_lists_the_others(data):
    (line,) = check(data, URDF.replace('"joint_3"', '"elbow"')).contradictions
    assert line.startswith("joint_3 is not in the URDF; its moving joints: 'joint_1', 'joint_2'")
    assert "'elbow'" in line


def test_a_gripper_with_a_driver_of_its_own_may_be_missing(data):
    gripper = {"open": 0.045, "closed": 0.0, "output": "gripper_command", "topic": "hand/cmd"}
    data = {**data, "grippers": {"gripper_joint": gripper}}
    result = check(data, URDF.replace('"gripper_joint"', '"other"'))
    assert result.contradictions == ()
    assert "gripper_joint is not in the URDF" in result.notes[0]
    assert "hand/cmd" in result.notes[0]


def test_a_joint_that_cannot_move_is_a_contradiction(data):
    urdf = URDF.replace('name="joint_2" type="revolute"', 'name="joint_2" type="fixed"')
    assert "joint_2 is fixed in the URDF and cannot move." in check(data, urdf).contradictions


def test_a_joint_that_follows_another_must_not_be_commanded(data):
    for section in ("state", "action"):
        joints = data[section]["joints"]
        data[section]["joints"] = [*joints[:-1], "gripper_mirror_joint"]
    data["limits"]["gripper_mirror_joint"] = data["limits"].pop("gripper_joint")
    (line,) = check(data).contradictions
    assert line == "gripper_mirror_joint follows another joint in the URDF; command that one."


def test_limits_that_leave_no_range_are_a_contradiction(data):
    data["limits"]["joint_1"].update(lower=3.0, upper=4.0)
    (line,) = check(data).contradictions
    assert line == ("limits.joint_1 is 3 to 4, but the URDF allows -2.8 to 2.8: nothing is left.")


def test_a_stricter_urdf_is_a_note_with_both_figures(data):
    data["limits"]["joint_1"].update(upper=3.0, velocity=3.0)
    result = check(data)
    assert result.contradictions == ()
    assert result.notes == (
        "limits.joint_1: the URDF is stricter: upper 2.8 not 3, velocity 2.5 not 3.",
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"velocity": 2.5}, "equal"),
        ({"velocity": 2.0}, "contract"),
        ({"lower": -3.0, "velocity": 2.5}, "URDF"),
        ({"lower": -3.0, "upper": 2.0}, "both"),
    ],
)
def test_whose_limits_bind_is_told(change, expected):
    limit = replace(load_contract("sim").limits["joint_1"], **change)
    assert stricter(limit, parse_urdf(URDF)["joint_1"]) == expected


def test_a_gripper_that_cannot_open_so_far_is_a_contradiction(data):
    data["grippers"] = {"gripper_joint": {"open": 0.09, "closed": 0.0}}
    (line,) = check(data).contradictions
    assert line == "grippers.gripper_joint.open is 0.09, outside of its limits 0 to 0.045."


def test_a_tool_that_is_not_in_the_urdf_is_a_contradiction(data):
    (line,) = check({**data, "kinematics": {**KINEMATICS, "tip_link": "hand"}}).contradictions
    assert line.startswith("kinematics: tip_link 'hand' is not in the URDF")


def test_a_tool_that_hangs_on_an_unmeasured_joint_is_a_contradiction(data):
    for section in ("state", "action"):
        data[section]["joints"] = data[section]["joints"][1:]
    del data["limits"]["joint_1"]
    (line,) = check({**data, "kinematics": KINEMATICS}).contradictions
    assert line == "kinematics: the tool hangs on 'joint_1', which state.joints lacks."


def test_another_order_than_from_base_to_tool_is_a_note(data):
    joints = data["action"]["joints"]
    data["action"]["joints"] = [joints[1], joints[0], *joints[2:]]
    result = check({**data, "kinematics": KINEMATICS})
    assert result.contradictions == ()
    assert result.notes[0].startswith("action.joints has the arm as joint_2, joint_1, joint_3")


def test_a_joint_is_looked_up_without_the_prefix_of_its_topic(data):
    renamed = [f"left/{joint}" for joint in data["state"]["joints"]]
    data["state"].update(joints=renamed, prefixes={"joint_states": "left/"})
    data["action"]["joints"] = renamed
    data["limits"] = {f"left/{joint}": limit for joint, limit in data["limits"].items()}
    result = check(data)
    assert (result.contradictions, result.notes) == ((), ())
    assert result.joints["left/joint_1"].name == "joint_1"
