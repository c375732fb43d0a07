# SPDX-License-Identifier: MIT
import math
from pathlib import Path

import numpy as np
import pytest

import vla_core.sim
from vla_core.errors import ConfigError, ContractError
from vla_core.processing.contract import JointLimits, KinematicsContract, load_contract
from vla_core.processing.kinematics import limits_and_chain
from vla_core.processing.urdf import load_urdf, parse_urdf, stricter_limits

PATH = Path(vla_core.sim.__file__).parent / "assets" / "tabletop_arm.urdf"
LIMITS = {"lower": -1.0, "upper": 1.0, "velocity": 2.0, "acceleration": 5.0, "jerk": 50.0}


def make_urdf(joint: str) -> str:
    return f"<robot name='r'><link name='a'/><link name='b'/>{joint}</robot>"


def make_joint(inner: str = "", kind: str = "revolute") -> str:
    ends = "<parent link='a'/><child link='b'/>"
    return make_urdf(f"<joint name='j' type='{kind}'>{ends}{inner}</joint>")


def kinematics(urdf: str) -> KinematicsContract:
    return KinematicsContract(urdf=urdf, base_link="base_link", tip_link="tool0")


def test_joints_have_their_limits():
    joint = parse_urdf(PATH.read_text())["joint_5"]
    assert (joint.lower, joint.upper, joint.velocity) == (-2.4, 2.4, 3.0)


def test_joint_that_follows_another_is_marked():
    joints = parse_urdf(PATH.read_text())
    assert [name for name, joint in joints.items() if joint.is_mimic] == ["gripper_mirror_joint"]


def test_continuous_joint_has_no_range():
    text = make_joint("<limit lower='-1' upper='1' velocity='2' effort='1'/>", "continuous")
    joint = parse_urdf(text)["j"]
    assert (joint.lower, joint.upper, joint.velocity) == (-math.inf, math.inf, 2.0)


def test_velocity_of_zero_means_that_none_is_given():
    text = make_joint("<limit lower='-1' upper='1' velocity='0' effort='1'/>")
    assert parse_urdf(text)["j"].velocity == math.inf


def test_axis_is_brought_to_length_one():
    joint = parse_urdf(make_joint("<axis xyz='0 3 4'/>"))["j"]
    np.testing.assert_allclose(joint.axis, [0.0, 0.6, 0.8])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<robot>", "not valid XML"),
        ("<sdf/>", "must begin with <robot>, got <sdf>"),
        (make_joint(kind="hinge"), "joint 'j' of the URDF needs .* got 'hinge'"),
        (make_urdf("<joint name='j' type='fixed'/>"), "needs a parent and a child link"),
        (make_joint("<axis xyz='0 0 0'/>"), "axis of joint 'j' of the URDF must not be zero"),
        (make_joint("<axis xyz='0 0'/>"), "xyz of joint 'j' .* 3 finite numbers, got '0 0'"),
        (make_joint("<origin xyz='0 nan 0'/>"), "3 finite numbers, got '0 nan 0'"),
        (make_joint("<limit lower='low'/>"), "lower of joint 'j' .* 1 finite numbers"),
    ],
)
def test_damaged_urdf_is_refused_with_what_is_wrong(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_urdf(text)


def test_joint_that_is_there_twice_is_refused():
    joint = "<joint name='j' type='fixed'><parent link='a'/><child link='b'/></joint>"
    with pytest.raises(ConfigError, match="joint 'j' twice"):
        parse_urdf(make_urdf(2 * joint))


def test_xacro_file_is_told_apart():
    text = "<robot xmlns:xacro='http://www.ros.org/wiki/xacro'><xacro:macro name='arm'/></robot>"
    with pytest.raises(ConfigError, match="xacro file; expand it first"):
        parse_urdf(text)


def test_urdf_is_found_by_path_and_in_a_python_package(monkeypatch):
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    by_package = load_urdf(kinematics("package://vla_core/sim/assets/tabletop_arm.urdf"))
    assert by_package == load_urdf(kinematics(str(PATH))) == PATH.read_text()


def test_share_folder_of_a_ros_package_comes_first(monkeypatch, tmp_path):
    urdf = tmp_path / "share" / "vla_core" / "sim" / "assets" / "tabletop_arm.urdf"
    urdf.parent.mkdir(parents=True)
    urdf.write_text("<robot/>")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    text = load_urdf(kinematics("package://vla_core/sim/assets/tabletop_arm.urdf"))
    assert text == "<robot/>"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere/arm.urdf", "urdf '/nowhere/arm.urdf' cannot be read"),
        ("package://no_such_package/arm.urdf", "searched: no such package"),
        ("package://vla_core/arm.urdf", "is not there; searched: .*vla_core"),
        ("topic://robot_description", "is a topic; whoever subscribes"),
    ],
)
def test_urdf_that_cannot_be_read_is_named(name, message):
    with pytest.raises(ConfigError, match=message):
        load_urdf(kinematics(name))


def test_the_stricter_of_contract_and_urdf_counts():
    joints = parse_urdf(make_joint("<limit lower='-0.5' upper='3' velocity='1' effort='1'/>"))
    limits = stricter_limits({"j": JointLimits(**LIMITS)}, joints)
    assert limits["j"] == JointLimits(
        lower=-0.5, upper=1.0, velocity=1.0, acceleration=5.0, jerk=50.0
    )


def test_joint_that_the_urdf_does_not_have_keeps_its_limits():
    limits = {"gripper": JointLimits(**LIMITS)}
    assert stricter_limits(limits, parse_urdf(make_joint())) == limits


def test_limits_that_leave_nothing_are_refused():
    joints = parse_urdf(make_joint("<limit lower='2' upper='3' velocity='1' effort='1'/>"))
    with pytest.raises(ContractError, match=r"limits\.j is -1 to 1, but the URDF allows 2 to 3"):
        stricter_limits({"j": JointLimits(**LIMITS)}, joints)


def test_contract_without_kinematics_has_its_own_limits_and_no_chain():
    contract = load_contract("sim")
    assert contract.kinematics is None
    assert limits_and_chain(contract) == (contract.action_limits, None)
