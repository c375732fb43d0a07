# SPDX-License-Identifier: MIT
"""The simulated robot behind a forward controller, alone and commanded by command_node."""

import numpy as np
import pytest
import yaml
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


def test_command_node_moves_the_arm_through_it(
    sim, start_node, contract_path, node, measured, wait_until
):
    from vla_msgs.msg import ActionChunk

    from vla_core import types

    start_node("command_node", "-p", f"contract:={contract_path}")
    chunks = node.create_publisher(ActionChunk, "action_chunk", command_qos())
    actions = np.tile(GOAL, (16, 1))

    def arrived():
        state = measured()
        if state is None:
            return False
        chunk = types.ActionChunk(
            actions=actions,
            policy_actions=actions.astype(np.float32),
            joints=load_contract("sim").action.joints,
            dt_s=0.1,
            stamp_ns=stamp_ns(state),
            checkpoint_id="test",
            instruction="move",
        )
        arrived.sequence += 1
        chunks.publish(
            action_chunk_message(
                chunk,
                sequence=arrived.sequence,
                epoch=1,
                inference_start_ns=stamp_ns(state),
                generation_ns=stamp_ns(state),
                image_stamps_ns={},
                state_stamp_ns=stamp_ns(state),
            )
        )
        return has_arrived(state)

    arrived.sequence = 0
    wait_until(arrived, "the arm at its target")
