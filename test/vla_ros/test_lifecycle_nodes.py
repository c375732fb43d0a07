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


class Managed:
    """A node that waits for its manager, and that manager."""

    def __init__(self, node, executor, process, name, wait_until):
        self.process = process
        self._executor = executor
        self._clients = {
            kind: node.create_client(kind, f"{name}/{service}")
            for kind, service in ((ChangeState, "change_state"), (SetParameters, "set_parameters"))
        }
        for client in self._clients.values():
            wait_until(client.service_is_ready, client.srv_name)

    def change(self, *transitions):
        """Ask for transitions one after the other; return whether each succeeded."""
        requests = [ChangeState.Request(transition=Transition(id=t)) for t in transitions]
        return [self._call(request).success for request in requests]

    def set(self, name, value):
        """Set a parameter and return what the node says."""
        message = Parameter(name, value=value).to_parameter_msg()
        return self._call(SetParameters.Request(parameters=[message])).results[0]

    def _call(self, request):
        kind = ChangeState if isinstance(request, ChangeState.Request) else SetParameters
        future = self._clients[kind].call_async(request)
        self._executor.spin_until_future_complete(future, timeout_sec=60.0)
        return future.result()


@pytest.fixture
def manage(start_node, node, executor, wait_until):
    """Start a node with parameters, which waits for its manager."""

    def manage(name, **parameters):
        values = {"autostart": False, **parameters}
        words = [word for k, v in values.items() for word in ("-p", f"{k}:={json.dumps(v)}")]
        return Managed(node, executor, start_node(name, *words), name, wait_until)

    return manage


@pytest.fixture
def call(node, executor, wait_until):
    """Call a service and return its answer."""

    def call(kind, name, request):
        client = node.create_client(kind, name)
        wait_until(client.service_is_ready, name)
        future = client.call_async(request)
        executor.spin_until_future_complete(future, timeout_sec=60.0)
        return future.result()

    return call


def test_robot_that_cannot_be_configured_says_why_and_can_be_mended(
    manage, node, call, wait_until
):
    robot = manage("sim_robot_node", contract="nobody", camera_rate_hz=0.0)
    states = PolledSubscription(node, JointState, "joint_states", sensor_subscription_qos())
    assert robot.change(CONFIGURE) == [False]
    reset = ResetEpisode.Request(seed=1)
    said = call(ResetEpisode, "sim_robot_node/reset", reset).message
    assert "the node is not configured. cannot configure: contract 'nobody'" in said
    assert "cannot configure: contract 'nobody' is not shipped" in robot.process.output()
    assert robot.set("contract", "sim").successful
    assert robot.change(CONFIGURE) == [True]
    assert "is fixed to 'sim'" in robot.set("contract", "nobody").reason
    assert states.take() is None, "it stands still until it is activated"
    assert robot.change(ACTIVATE) == [True]
    last = wait_until(states.take, "joint states")
    assert robot.change(DEACTIVATE, CLEAN_UP, CONFIGURE, ACTIVATE) == [True] * 4
    wait_until(lambda: (s := states.take()) and stamp_ns(s) > stamp_ns(last), "joint states")
    assert call(ResetEpisode, "sim_robot_node/reset", reset).success
    assert robot.process.stop() == 0


def test_recorder_closes_its_bag_when_deactivated_and_opens_another_one(
    manage, node, call, wait_until, tmp_path
):
    recorder = manage(
        "recorder_node", path=str(tmp_path / "one"), topics=["text std_msgs/msg/String"]
    )
    text = node.create_publisher(String, "text", command_qos())
    said = call(StartEpisode, "recorder_node/start_episode", StartEpisode.Request())
    assert said.message == "the node is not active."
    assert recorder.change(CONFIGURE, ACTIVATE) == [True, True]
    assert recorder.set("compress", False).successful
    assert recorder.set("flush_period_s", 0.1).successful
    assert recorder.change(DEACTIVATE, ACTIVATE) == [True, False], "that bag exists"
    assert (tmp_path / "one" / "metadata.yaml").exists()
    assert "exists already" in recorder.process.output()
    assert recorder.change(CLEAN_UP) == [True]
    file = tmp_path / "two" / "two.mcap"
    assert recorder.set("path", str(file.parent)).successful
    assert recorder.change(CONFIGURE) == [True]
    wait_until(lambda: not text.get_subscription_count(), "silence while it is inactive")
    assert recorder.change(ACTIVATE) == [True]

    def is_recorded():
        text.publish(String(data="in time"))
        return file.exists() and b"in time" in file.read_bytes()

    wait_until(is_recorded, "a message in the second bag")
    assert recorder.process.stop() == 0
    assert (file.parent / "metadata.yaml").exists()
