# SPDX-License-Identifier: MIT
"""What a demonstrator commanded, from every kind of message and into every kind of action."""

from pathlib import Path

import numpy as np
import pytest

import vla_core.sim
from vla_core.dataset.bag_actions import DemonstratedActions, TargetTopic
from vla_core.errors import MessageError
from vla_core.inference.joint_targets import ActionReader
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.kinematics import limits_and_chain
from vla_core.types import ActionChunk

JOINT_STATE = "sensor_msgs/msg/JointState"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
ARRAY = "std_msgs/msg/Float64MultiArray"
URDF = Path(vla_core.sim.__file__).parent / "assets/tabletop_arm.urdf"


@pytest.fixture
def at(bags):
    """Return the time of so many ms after the start of the bags, in ns."""
    return lambda ms: bags.START_NS + round(ms * bags.MS)


def test_trajectory_is_followed_between_its_points(bags, at):
    topic = TargetTopic(TRAJECTORY)
    message = bags.trajectory({"elbow": 1.0}, after_ms=0)
    message.points.append(bags.trajectory({"elbow": 2.0}, after_ms=100).points[0])
    topic.put(message, at(0))
    assert topic.at(at(25))["elbow"] == pytest.approx(1.25)
    assert topic.at(at(500))["elbow"] == pytest.approx(2.0)
    assert topic.at(at(-1)) == {}


def test_command_stays_in_force_until_the_next_one(bags, at):
    topic = TargetTopic(TRAJECTORY)
    for ms, value in ((0, 1.0), (60_000, 2.0)):
        topic.put(bags.trajectory({"elbow": value}), at(ms))
    assert topic.at(at(59_999))["elbow"] == 1.0
    assert topic.at(at(60_000))["elbow"] == 2.0


def test_array_has_the_joints_of_the_contract_in_their_order(bags, at):
    topic = TargetTopic(ARRAY, ("shoulder", "elbow"), "left/")
    layout = bags.make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
    topic.put(bags.make(ARRAY, layout=layout, data=np.array([1.0, 2.0])), at(0))
    assert topic.at(at(5)) == {"left/shoulder": 1.0, "left/elbow": 2.0}
    topic.put(bags.make(ARRAY, layout=layout, data=np.array([1.0])), at(10))
    with pytest.raises(MessageError, match=r"1 values, the contract says 'shoulder', 'elbow'"):
        topic.at(at(15))


def test_leader_arm_is_interpolated_and_renamed(bags, at):
    topic = TargetTopic(JOINT_STATE, prefix="left/")
    for ms in (0, 10, 20):
        topic.put(bags.joint_state(ms, {"elbow": ms * 0.1}), at(ms + 1))
    assert topic.at(at(14))["left/elbow"] == pytest.approx(1.4)


def test_hole_in_the_leader_arms_messages_is_no_action(bags, at):
    topic = TargetTopic(JOINT_STATE)
    for ms in (0, 900):
        topic.put(bags.joint_state(ms, {"elbow": 0.0}), at(ms))
    with pytest.raises(MessageError, match=r"nearest joint states are more than 0\.2 s away"):
        topic.at(at(450))


def test_joint_without_command_is_named(bags, at):
    topic = TargetTopic(TRAJECTORY)
    topic.put(bags.trajectory({"elbow": 1.0}), at(0))
    actions = DemonstratedActions(bags.make_contract(), {"/arm": topic})
    with pytest.raises(MessageError, match=r"no action for 'shoulder' .*/arm, which have 'elbow'"):
        actions.action(at(50))


@pytest.mark.parametrize("delta_frame", ["base", "tool"])
def test_end_effector_changes_lead_the_robot_where_the_demonstrator_was(bags, at, delta_frame):
    values = load_contract("sim").to_dict()
    values["action"] |= {"kind": "end_effector_delta", "delta_frame": delta_frame}
    values["kinematics"] = {"urdf": str(URDF), "base_link": "base_link", "tip_link": "tool0"}
    values["grippers"] = {"gripper_joint": {"open": 0.045, "closed": 0.0}}
    contract = RobotContract.from_dict(values)
    joints = contract.action.joints
    before = np.array([0.1, 0.3, 1.4, 0.1, 1.3, -0.2, 0.04])
    after = before + np.array([0.02, -0.03, 0.02, 0.01, -0.02, 0.03, -0.02])
    topic = TargetTopic(JOINT_STATE)
    for ms, positions in ((0, before), (100, after)):
        topic.put(bags.joint_state(ms, dict(zip(joints, positions, strict=True))), at(ms))
    action = DemonstratedActions(contract, {"/leader": topic}).action(at(0))
    limits, chain = limits_and_chain(contract)
    chunk = ActionChunk(
        actions=action[None],
        policy_actions=action[None].astype(np.float32),
        joints=contract.action_names,
        dt_s=contract.action.dt_s,
        stamp_ns=at(0),
        checkpoint_id="",
        instruction="",
        kind="end_effector_delta",
    )
    reached = ActionReader(contract, limits, chain).joint_targets(chunk, before).positions[0]
    np.testing.assert_allclose(reached, after, atol=1e-3)
