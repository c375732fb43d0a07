# SPDX-License-Identifier: MIT
"""The simulated robot behind a forward controller, alone and commanded by command_node."""

import itertools
import signal
import time

import numpy as np
import pytest
import yaml
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from vla_core.processing.contract import load_contract
from vla_core.processing.messages import joint_positions_from_message, stamp_ns
from vla_core.sim.arm_model import HOME, JOINTS
from vla_ros.conversions import action_chunk_message, command_qos, sensor_subscription_qos
from vla_ros.polled_subscription import PolledSubscription

pytestmark = pytest.mark.ros

TOPIC = "forward_position_controller/commands"
GOAL = np.asarray(HOME) + np.array([0.2, 0.0, 0.0, 0.1, 0.0, -0.1, -0.02])


@pytest.fixture
def contract_path(tmp_path):
    contract = load_contract("sim").to_dict()
    contract["command"] = {"rate_hz": 50.0, "output": "forward_position", "topic": TOPIC}
    path = tmp_path / "forward.yaml"
    path.write_text(yaml.safe_dump(contract, sort_keys=False))
    return path


@pytest.fixture
def sim(start_node, contract_path):
    return start_node(
        "sim_robot_node", "-p", "camera_rate_hz:=0.0", "-p", f"contract:={contract_path}"
    )


@pytest.fixture
def measured(node):
    """Return the newest joint state, or None."""
    states = PolledSubscription(node, JointState, "joint_states", sensor_subscription_qos())
    return states.take


def has_arrived(state):
    return state is not None and np.allclose(
        joint_positions_from_message(state, JOINTS), GOAL, atol=0.01
    )


def test_values_are_taken_in_the_order_that_the_controller_tells(
    sim, node, measured, call_service, wait_until
):
    from rcl_interfaces.srv import GetParameters

    response = call_service(
        GetParameters,
        "forward_position_controller/get_parameters",
        GetParameters.Request(names=["joints"]),
    )
    order = response.values[0].string_array_value
    assert sorted(order) == sorted(JOINTS)
    publisher = node.create_publisher(Float64MultiArray, TOPIC, command_qos())
    values = [GOAL[JOINTS.index(joint)] for joint in order]

    def arrived():
        publisher.publish(Float64MultiArray(data=values))
        return has_arrived(measured())

    wait_until(arrived, "the arm at its target")


@pytest.mark.parametrize("values", [[0.1, 0.2], [float("nan")] * 7])
def test_a_command_that_does_not_fit_is_refused(sim, node, values, wait_until):
    publisher = node.create_publisher(Float64MultiArray, TOPIC, command_qos())

    def refused():
        publisher.publish(Float64MultiArray(data=values))
        return "a command must" in sim.output()

    wait_until(refused, "the refusal")


@pytest.fixture
def lead(node, measured):
    """`lead(goal)` has the policy answer the newest joint state, if any, and returns that."""
    from vla_msgs.msg import ActionChunk

    from vla_core import types

    chunks = node.create_publisher(ActionChunk, "action_chunk", command_qos())
    sequence = itertools.count(1)

    def answer(goal):
        state = measured()
        if state is None:
            return None
        actions = np.tile(goal, (16, 1))
        chunk = types.ActionChunk(
            actions=actions,
            policy_actions=actions.astype(np.float32),
            joints=JOINTS,
            dt_s=0.1,
            stamp_ns=stamp_ns(state),
            checkpoint_id="test",
            instruction="move",
        )
        chunks.publish(
            action_chunk_message(
                chunk,
                sequence=next(sequence),
                epoch=1,
                inference_start_ns=stamp_ns(state),
                generation_ns=stamp_ns(state),
                image_stamps_ns={},
                state_stamp_ns=stamp_ns(state),
            )
        )
        return state

    return answer


def test_command_node_moves_the_arm_through_it(sim, start_node, contract_path, lead, wait_until):
    start_node("command_node", "-p", f"contract:={contract_path}")
    wait_until(lambda: has_arrived(lead(GOAL)), "the arm at its target")


def test_after_a_pause_of_command_node_no_command_jumps(
    sim, start_node, contract_path, node, lead, wait_until
):
    """The arm has stayed at the last command, not followed the plan that this belonged to."""
    commands = PolledSubscription(node, Float64MultiArray, TOPIC, QoSProfile(depth=1000))
    process = start_node("command_node", "-p", f"contract:={contract_path}")
    far = np.add(HOME, [1.2, 0, 0, 0, 0, 0, 0])

    def leads_to(share):
        state = lead(far)
        if state is None:
            return False
        way = joint_positions_from_message(state, JOINTS)[0] - HOME[0]
        return way > share * (far[0] - HOME[0])

    wait_until(lambda: leads_to(0.3), "a motion")
    process.send(signal.SIGSTOP)
    time.sleep(0.2)
    process.send(signal.SIGCONT)
    wait_until(lambda: leads_to(0.9), "the rest of the motion")
    sent = np.array([command.data for command in commands.take_all()])
    fastest = max(limit.velocity for limit in load_contract("sim").limits.values())
    assert np.abs(np.diff(sent, axis=0)).max() < fastest * 0.02 + 1e-3
