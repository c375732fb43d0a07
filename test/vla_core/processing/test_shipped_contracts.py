# SPDX-License-Identifier: MIT
"""The contracts of config/robots are fit for the robots that they name."""

import re
from importlib.resources import files

import pytest

from vla_core.processing.contract import available_contracts, load_contract
from vla_core.processing.contract_check import check_contract
from vla_core.processing.urdf import parse_urdf

SIMULATED = ("sim", "sim_200hz")
REAL = [name for name in available_contracts() if name not in (*SIMULATED, "sim_bimanual")]
each_contract = pytest.mark.parametrize("name", available_contracts())
each_real_robot = pytest.mark.parametrize("name", REAL)


def test_the_usual_arms_are_there():
    assert {"ur5e", "franka_fr3", "vx300s", "aloha", "so101", "xarm6"} <= set(REAL)


@each_real_robot
def test_a_real_robot_only_previews_until_it_is_armed(name):
    safety = load_contract(name).safety
    assert safety.dry_run
    assert safety.max_step is not None
    assert safety.max_step <= 0.5


@each_real_robot
def test_a_frozen_camera_of_a_real_robot_is_noticed(name):
    for camera in load_contract(name).cameras.values():
        assert (camera.width, camera.height) == (640, 480)
        assert camera.max_frozen_s is not None
        assert camera.max_age_s <= camera.max_frozen_s <= 1.0


@each_real_robot
def test_several_cameras_of_a_real_robot_show_one_instant(name):
    """More than a period of cameras at 30 Hz apart are only robots with slow joint states."""
    contract = load_contract(name)
    if len(contract.cameras) > 1:
        assert contract.alignment.max_skew_s is not None
        assert 1 / 30 < contract.alignment.max_skew_s <= max(0.05, contract.state.max_age_s / 2)


@each_contract
def test_what_is_commanded_is_measured_in_the_same_order(name):
    contract = load_contract(name)
    assert contract.state.joints == contract.action.joints == tuple(contract.limits)


@each_contract
def test_limits_are_those_of_an_arm(name):
    contract = load_contract(name)
    for joint, limit in contract.limits.items():
        assert 0.0 < limit.upper - limit.lower < 12.6, joint  # two turns, rad
        assert limit.velocity <= 3.15, joint
        assert limit.acceleration <= 15.0, joint
        assert limit.velocity / limit.acceleration <= 1.0, joint  # s to a stop


@each_real_robot
def test_the_largest_step_does_not_hinder_a_motion_within_the_limits(name):
    contract = load_contract(name)
    for joint in contract.arm_joints:
        if joint not in contract.grippers:
            step = contract.limits[joint].velocity * contract.action.dt_s
            assert step < contract.safety.max_step, joint


@each_contract
def test_grippers_open_and_close_within_their_limits(name):
    contract = load_contract(name)
    for joint, gripper in contract.grippers.items():
        limit = contract.limits[joint]
        assert limit.lower <= gripper.open <= limit.upper
        assert limit.lower <= gripper.closed <= limit.upper


@each_real_robot
def test_the_file_of_a_real_robot_names_the_sources_of_its_figures(name):
    text = available_contracts()[name].read_text(encoding="utf-8")
    sources = re.findall(r"@[0-9a-f]{7}\b", text)
    assert sources, "no commit of a maker's repository is quoted"
    assert "\nlimits:" in text
    comment = text[: text.index("\nlimits:")].rpartition("\n\n")[2]
    assert comment.startswith("# rad, rad/s")


@pytest.mark.parametrize("name", SIMULATED)
def test_a_simulated_robot_is_within_its_urdf(name):
    urdf = files("vla_core").joinpath("sim/assets/tabletop_arm.urdf").read_text(encoding="utf-8")
    result = check_contract(load_contract(name), parse_urdf(urdf))
    assert result.contradictions == ()
    assert result.notes == ()
    assert None not in result.joints.values()


def test_both_arms_of_the_simulation_are_the_single_arm():
    pair, single = load_contract("sim_bimanual"), load_contract("sim")
    for side in ("left_", "right_"):
        for joint in single.state.joints:
            assert pair.limits[side + joint] == single.limits[joint]
        mine = tuple(side + joint for joint in single.state.joints)
        assert pair.command.topics[f"{side}arm_controller/joint_trajectory"] == mine


def test_both_arms_of_aloha_are_the_single_arm():
    pair, single = load_contract("aloha"), load_contract("vx300s")
    names = {joint.partition("/")[2] for joint in pair.state.joints}
    assert names == set(single.state.joints)
    for joint in single.state.joints:
        assert pair.limits[f"left/{joint}"] == pair.limits[f"right/{joint}"]
        assert pair.limits[f"left/{joint}"] == single.limits[joint]
    for topic, joints in pair.command.topics.items():
        controller = topic.partition("/")[2]
        prefix = pair.command.prefixes[topic]
        mine = tuple(joint.removeprefix(prefix) for joint in joints)
        assert mine == single.command.topics[f"vx300s/{controller}"]
