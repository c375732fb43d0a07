# SPDX-License-Identifier: MIT
"""Robot and recorder as managed nodes: a manager brings them up and down, failures say why."""

import json

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from vla_msgs.srv import ResetEpisode, StartEpisode

from vla_core.processing.messages import stamp_ns
from vla_ros.conversions import command_qos, sensor_subscription_qos
from vla_ros.polled_subscription import PolledSubscription

pytestmark = pytest.mark.ros

CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEAN_UP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP


@pytest.fixture
def manage(start_node, call_service):
    """Start a node that waits for a manager; return who changes its state and its parameters."""

    def manage(name, **parameters):
        values = {"autostart": False, **parameters}
        words = [word for k, v in values.items() for word in ("-p", f"{k}:={json.dumps(v)}")]
        process = start_node(name, *words)

        def change(*transitions):
            requests = [ChangeState.Request(transition=Transition(id=t)) for t in transitions]
            return [
                call_service(ChangeState, f"{name}/change_state", request).success
                for request in requests
            ]

        def set_parameter(parameter, value):
            request = SetParameters.Request(
                parameters=[Parameter(parameter, value=value).to_parameter_msg()]
            )
            return call_service(SetParameters, f"{name}/set_parameters", request).results[0]

        return process, change, set_parameter

    return manage


def test_robot_that_cannot_be_configured_says_why_and_can_be_mended(
    manage, node, call_service, wait_until
):
    process, change, set_parameter = manage(
        "sim_robot_node", contract="nobody", camera_rate_hz=0.0
    )
    states = PolledSubscription(node, JointState, "joint_states", sensor_subscription_qos())
    assert change(CONFIGURE) == [False]
    reset = ResetEpisode.Request(seed=1)
    said = call_service(ResetEpisode, "sim_robot_node/reset", reset).message
    assert "the node is not configured. cannot configure: contract 'nobody'" in said
    assert "cannot configure: contract 'nobody' is not shipped" in process.output()
    assert set_parameter("contract", "sim").successful
    assert change(CONFIGURE) == [True]
    assert "is fixed to 'sim'" in set_parameter("contract", "nobody").reason
    assert states.take() is None, "it stands still until it is activated"
    assert change(ACTIVATE) == [True]
    last = wait_until(states.take, "joint states")
    assert change(DEACTIVATE, CLEAN_UP, CONFIGURE, ACTIVATE) == [True] * 4
    wait_until(lambda: (s := states.take()) and stamp_ns(s) > stamp_ns(last), "joint states")
    assert call_service(ResetEpisode, "sim_robot_node/reset", reset).success
    assert process.stop() == 0


def test_recorder_closes_its_bag_when_deactivated_and_opens_another_one(
    manage, node, call_service, wait_until, tmp_path
):
    process, change, set_parameter = manage(
        "recorder_node", path=str(tmp_path / "one"), topics=["text std_msgs/msg/String"]
    )
    text = node.create_publisher(String, "text", command_qos())
    said = call_service(StartEpisode, "recorder_node/start_episode", StartEpisode.Request())
    assert said.message == "the node is not active."
    assert change(CONFIGURE, ACTIVATE) == [True, True]
    assert set_parameter("compress", False).successful
    assert set_parameter("flush_period_s", 0.1).successful
    assert change(DEACTIVATE, ACTIVATE) == [True, False], "that bag exists"
    assert (tmp_path / "one" / "metadata.yaml").exists()
    assert "exists already" in process.output()
    assert change(CLEAN_UP) == [True]
    file = tmp_path / "two" / "two.mcap"
    assert set_parameter("path", str(file.parent)).successful
    assert change(CONFIGURE) == [True]
    wait_until(lambda: not text.get_subscription_count(), "silence while it is inactive")
    assert change(ACTIVATE) == [True]

    def is_recorded():
        text.publish(String(data="in time"))
        return file.exists() and b"in time" in file.read_bytes()

    wait_until(is_recorded, "a message in the second bag")
    assert process.stop() == 0
    assert (file.parent / "metadata.yaml").exists()
