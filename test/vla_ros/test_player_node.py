# SPDX-License-Identifier: MIT
"""player_node as a process: /clock, order, waiting for listeners, pausing."""

import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import SetBool

from vla_core.processing.contract import load_contract
from vla_core.processing.messages import stamp_ns, time_ns
from vla_ros.conversions import image_message, joint_state_message
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.polled_subscription import PolledSubscription
from vla_ros.recording import Recording

pytestmark = pytest.mark.ros

START_NS = 1_700_000_000_000_000_000
NUM_STATES = 40
STATE_STEP_NS = 10_000_000
CLOCK_STEP_NS = 5_000_000
CONTRACT = load_contract("sim")
CAMERAS = [camera.topic for camera in CONTRACT.cameras.values()]


def write_bag(path, topics):
    recording = Recording(path, compress=False, notes={})
    for topic in topics:
        kind = "JointState" if topic == "joint_states" else "Image"
        recording.add_topic(f"/{topic}", f"sensor_msgs/msg/{kind}", [])
    for number in range(NUM_STATES):
        at_ns = START_NS + number * STATE_STEP_NS
        for topic in topics:
            message = (
                joint_state_message(["a"], [number], [0.0], stamp_ns=at_ns)
                if topic == "joint_states"
                else image_message(np.zeros((2, 2, 3), np.uint8), stamp_ns=at_ns)
            )
            recording.write(f"/{topic}", at_ns, serialize_message(message))
    recording.close()
    return path


@pytest.fixture
def player(start_node, tmp_path):
    bag = write_bag(tmp_path / "bag", ["joint_states", *CAMERAS])

    def start(**parameters):
        words = [w for name, value in parameters.items() for w in ("-p", f"{name}:={value}")]
        return start_node("player_node", "-p", f"bag:={bag}", *words)

    return start


class Listener:
    """Hears joint states and /clock; `hear_cameras` subscribes to the rest."""

    def __init__(self, node):
        self._node = node
        self._sources = {
            "clock": PolledSubscription(node, Clock, "/clock", QoSProfile(depth=1000)),
            "states": PolledSubscription(node, JointState, "joint_states", QoSProfile(depth=1000)),
        }
        self.heard = {name: [] for name in self._sources}

    def hear_cameras(self):
        for topic in CAMERAS:
            self._sources[topic] = PolledSubscription(
                self._node, Image, topic, QoSProfile(depth=1000)
            )
            self.heard[topic] = []

    def take(self):
        for name, source in self._sources.items():
            self.heard[name] += source.take_all()
        return self.heard

    def positions(self):
        return [message.position[0] for message in self.take()["states"]]


@pytest.fixture
def listener(node):
    return Listener(node)


def test_it_waits_for_every_listener_and_then_plays_all_in_order(player, listener, wait_until):
    process = player()
    wait_until(lambda: "joint_states" in process.output(), "the player")
    wait_until(lambda: listener._sources["states"].num_publishers, "a match")
    assert listener.positions() == []
    listener.hear_cameras()
    assert process.wait() == 0, process.output()
    # The last messages may be on their way when the process has ended.
    topics = ("states", *CAMERAS)
    wait_until(lambda: all(len(listener.take()[t]) >= NUM_STATES for t in topics), "all messages")
    assert listener.positions() == list(range(NUM_STATES))
    for topic in CAMERAS:
        stamps = [stamp_ns(message) for message in listener.heard[topic]]
        assert stamps == [START_NS + n * STATE_STEP_NS for n in range(NUM_STATES)]
    times = np.array([time_ns(message.clock) for message in listener.heard["clock"]])
    steps = np.diff(times)
    assert (steps >= 0).all()
    assert (steps % CLOCK_STEP_NS == 0).all()
    assert times[-1] >= START_NS + (NUM_STATES - 1) * STATE_STEP_NS


def test_while_it_is_paused_simulated_time_stands_still(
    player, listener, wait_until, call_service
):
    process = player(start_paused="true", wait_for_subscribers="false")
    wait_until(lambda: len(listener.take()["clock"]) > 5, "a clock that stands still")
    assert {time_ns(message.clock) for message in listener.heard["clock"]} == {START_NS}
    assert listener.positions() == []
    assert call_service(SetBool, "player_node/pause", SetBool.Request(data=False)).success
    wait_until(lambda: listener.positions()[-1:] == [NUM_STATES - 1.0], "the last joint state")
    assert process.wait() == 0


def test_a_recording_that_lacks_a_topic_is_refused(start_node, tmp_path):
    bag = write_bag(tmp_path / "bag", ["joint_states", CAMERAS[0]])
    process = start_node("player_node", "-p", f"bag:={bag}")
    assert process.wait() == EXIT_CONFIGURATION
    assert f"has no topic '{CAMERAS[1]}'" in process.output()
