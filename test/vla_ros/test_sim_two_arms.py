# SPDX-License-Identifier: MIT
"""The simulated robot with two arms: one node, a controller for each arm."""

import numpy as np
import pytest
import yaml
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory
from vla_msgs.msg import SimStatus
from vla_msgs.srv import ResetEpisode

from vla_core.processing.contract import load_contract
from vla_core.processing.messages import joint_positions_from_message
from vla_core.sim.hand_over import HandOverSim
from vla_ros.conversions import command_qos, joint_trajectory_message, sensor_subscription_qos
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.polled_subscription import PolledSubscription

pytestmark = pytest.mark.ros

CONTRACT = load_contract("sim_bimanual")
TOPICS = CONTRACT.command.topics
GOAL = HandOverSim.home + np.tile([0.1, 0.0, 0.0, 0.1, 0.0, 0.0, -0.02], 2)


@pytest.fixture
def take(node, wait_until):
    def take(kind, topic):
        source = PolledSubscription(node, kind, topic, sensor_subscription_qos())
        return wait_until(source.take, topic)

    return take


def goal_of(joints):
    return [GOAL[HandOverSim.joints.index(joint)] for joint in joints]


def test_both_arms_follow_their_controllers(start_node, node, wait_until):
    start_node("sim_robot_node", "-p", "contract:=sim_bimanual", "-p", "camera_rate_hz:=0.0")
    states = PolledSubscription(node, JointState, "joint_states", sensor_subscription_qos())
    status = PolledSubscription(node, SimStatus, "sim_robot_node/status", command_qos())
    publishers = {
        joints: node.create_publisher(JointTrajectory, topic, command_qos())
        for topic, joints in TOPICS.items()
    }

    def have_arrived():
        # What is sent before both sides have found each other is lost.
        for joints, publisher in publishers.items():
            publisher.publish(joint_trajectory_message(joints, [goal_of(joints)], None, [0.2]))
        state = states.take()
        if state is None:
            return False
        measured = joint_positions_from_message(state, HandOverSim.joints)
        return np.allclose(measured, GOAL, atol=0.01)

    wait_until(have_arrived, "both arms at their targets")
    message = wait_until(status.take, "the status")
    assert message.rejected_trajectories == 0


def test_a_controller_refuses_the_joints_of_the_other_arm(start_node, node, wait_until):
    start_node("sim_robot_node", "-p", "contract:=sim_bimanual", "-p", "camera_rate_hz:=0.0")
    status = PolledSubscription(node, SimStatus, "sim_robot_node/status", command_qos())
    (left, _), (_, joints) = TOPICS.items()
    publisher = node.create_publisher(JointTrajectory, left, command_qos())

    def refused():
        publisher.publish(joint_trajectory_message(joints, [goal_of(joints)], None, [0.2]))
        message = status.take()
        return message if message is not None and message.rejected_trajectories else None

    assert "left_joint_1" in wait_until(refused, "the refusal").last_rejection


def test_three_cameras_show_the_hand_over_and_a_reset_names_the_bar(
    start_node, take, call_service
):
    start_node("sim_robot_node", "-p", "contract:=sim_bimanual")
    for camera in CONTRACT.cameras.values():
        image = take(Image, camera.topic)
        assert (image.width, image.height) == (192, 192)
    response = call_service(ResetEpisode, "sim_robot_node/reset", ResetEpisode.Request(seed=4))
    assert (response.success, response.target) == (True, "bar")
    assert response.instruction == "hand the bar over"


def test_task_of_another_robot_is_refused(start_node):
    process = start_node("sim_robot_node", "-p", "contract:=sim_bimanual", "-p", "task:=pick")
    assert process.wait() == EXIT_CONFIGURATION
    assert "contract 'sim_bimanual' does not fit the simulation" in process.output()


def test_prefixes_of_joint_names_are_refused(start_node, tmp_path):
    contract = CONTRACT.to_dict()
    contract["command"]["prefixes"] = dict.fromkeys(TOPICS, "left_")
    contract["command"]["prefixes"]["right_arm_controller/joint_trajectory"] = "right_"
    path = tmp_path / "prefixed.yaml"
    path.write_text(yaml.safe_dump(contract, sort_keys=False))
    process = start_node("sim_robot_node", "-p", f"contract:={path}")
    assert process.wait() == EXIT_CONFIGURATION
    assert "without command.prefixes" in process.output()
