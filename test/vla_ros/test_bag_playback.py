# SPDX-License-Identifier: MIT
"""What of a recording is played, and when."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from vla_core.dataset.recording import Recording as ReadRecording
from vla_core.errors import ConfigError, DatasetError
from vla_core.processing.contract import load_contract
from vla_ros.bag_playback import BagPlayback, read_observed_topics
from vla_ros.conversions import image_message, joint_state_message
from vla_ros.recording import Recording

pytestmark = pytest.mark.ros

START_NS = 1_700_000_000_000_000_000
STAMP_NS = 5_000_000_000
STEP_NS = 100_000_000
STATES, FRONT, WRIST = (
    "/arm/joint_states",
    "/arm/front_camera/image_raw",
    "/wrist_camera/image_raw",
)
CONTRACT = load_contract("sim")
KINDS = {STATES: "sensor_msgs/msg/JointState", "/arm/estop": "std_msgs/msg/Bool"}


@pytest.fixture
def bag(tmp_path):
    """Ten steps of 0.1 s, by a recorder whose clock is another one than the robot's."""
    recording = Recording(tmp_path / "bag", compress=False, notes={})
    pixels = np.zeros((2, 2, 3), np.uint8)
    for step in range(10):
        stamp_ns = STAMP_NS + step * STEP_NS
        messages = {
            FRONT: image_message(pixels, stamp_ns=stamp_ns),
            WRIST: image_message(pixels, stamp_ns=stamp_ns),
            STATES: joint_state_message(["a"], [step], [0.0], stamp_ns=stamp_ns),
            "/arm/estop": Bool(data=True),
        }
        for topic, message in messages.items():
            if not recording.has_topic(topic):
                recording.add_topic(topic, KINDS.get(topic, "sensor_msgs/msg/Image"), [])
            recording.write(topic, START_NS + step * STEP_NS, serialize_message(message))
    recording.close()
    return tmp_path / "bag"


@pytest.fixture
def played(bag):
    """Return the steps at which joint states are due."""

    def play(**options):
        with ReadRecording(bag) as recording:
            playback = BagPlayback(recording, [STATES], **options)
            return [message.at_ns for message in playback]

    return play


def test_only_what_the_robot_s_nodes_observe_is_played_on_the_contract_s_topics(bag):
    assert read_observed_topics(bag, CONTRACT) == {
        FRONT: "front_camera/image_raw",
        WRIST: "wrist_camera/image_raw",
        STATES: "joint_states",
    }


def test_time_is_the_recorder_s(played):
    assert played() == [START_NS + step * STEP_NS for step in range(10)]


def test_time_can_be_that_of_the_stamps(played):
    assert played(clock="stamp") == [STAMP_NS + step * STEP_NS for step in range(10)]


@pytest.mark.parametrize("clock", ["received", "stamp"])
def test_beginning_and_end_can_be_left_out(played, clock):
    whole = played(clock=clock)
    assert played(clock=clock, start_s=0.25, duration_s=0.4) == whole[3:7]


def test_messages_are_played_as_they_were_recorded(bag):
    with ReadRecording(bag) as recording:
        (first, *_) = BagPlayback(recording, [STATES])
        (_, original) = next(recording.messages(STATES))
    # Not the bytes: between the fields serialize_message leaves what was in its memory before.
    expected = joint_state_message(["a"], [0], [0.0], stamp_ns=STAMP_NS)
    assert deserialize_message(first.data, JointState) == expected
    assert list(original.name) == ["a"]


def test_a_recording_without_messages_of_the_topics_is_refused(bag):
    with ReadRecording(bag) as recording, pytest.raises(DatasetError, match="has no message on"):
        BagPlayback(recording, ["/other"])


def test_a_clock_that_nobody_has_is_refused(bag):
    with ReadRecording(bag) as recording, pytest.raises(ConfigError, match="received, stamp"):
        BagPlayback(recording, [STATES], clock="wall")
