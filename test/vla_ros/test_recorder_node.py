# SPDX-License-Identifier: MIT
import contextlib
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from ament_index_python.packages import get_package_share_directory
from mcap.exceptions import EndOfFile
from mcap.reader import NonSeekingReader, make_reader
from rclpy.duration import Duration
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from vla_msgs.msg import ActionChunk

from vla_core.processing.image_encodings import image_from_message
from vla_core.processing.messages import joint_positions_from_message
from vla_ros.conversions import (
    command_qos,
    image_message,
    joint_state_message,
    latched_qos,
    sensor_subscription_qos,
)
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.polled_subscription import PolledSubscription

pytestmark = pytest.mark.ros

JOINTS = ("a", "b")


@pytest.fixture
def bag_path(tmp_path):
    return tmp_path / "bag"


@pytest.fixture
def start_recorder(start_node, bag_path):
    def start(*topics, **parameters):
        parameters = {"path": str(bag_path), "topics": list(topics), **parameters}
        arguments = [f"{name}:={json.dumps(value)}" for name, value in parameters.items()]
        return start_node("recorder_node", *(word for a in arguments for word in ("-p", a)))

    return start


@pytest.fixture
def publish(node, wait_until):
    """Publish messages once the recorder has subscribed, and return when it has them all."""

    def publish(topic, *messages, qos_profile=None, num_subscribers=1):
        qos_profile = qos_profile or command_qos()
        qos_profile.depth = len(messages)
        publisher = node.create_publisher(type(messages[0]), topic, qos_profile)
        wait_until(
            lambda: publisher.get_subscription_count() >= num_subscribers,
            f"the recorder on {topic}",
        )
        for message in messages:
            publisher.publish(message)
        assert publisher.wait_for_all_acked(Duration(seconds=60))

    return publish


def read_bag(path):
    """Return {topic: [(time_ns, serialised, decoded)]} as a tool without our packages reads it."""
    messages = {}
    with AnyReader([path]) as reader:
        for connection, time_ns, data in reader.messages():
            entry = (time_ns, bytes(data), reader.deserialize(data, connection.msgtype))
            messages.setdefault(connection.topic, []).append(entry)
    return messages


def messages_before_the_end(reader):
    """Return the messages of a file that ends in the middle of something."""
    messages = []
    with contextlib.suppress(EndOfFile):
        messages.extend(reader.iter_messages(log_time_order=False))
    return messages


def test_bag_holds_the_very_bytes_that_a_subscriber_gets(start_recorder, publish, node, bag_path):
    recorder = start_recorder("joint_states sensor_msgs/msg/JointState")
    qos_profile = command_qos()
    qos_profile.depth = 20
    subscription = PolledSubscription(node, JointState, "joint_states", qos_profile, raw=True)
    publish(
        "joint_states",
        *(joint_state_message(JOINTS, (k, 0.5), (0.0, 1.0), stamp_ns=k) for k in range(20)),
        num_subscribers=2,
    )
    assert recorder.stop() == 0
    received = list(iter(subscription.take_next, None))
    assert len(received) == 20
    assert [data for _, data, _ in read_bag(bag_path)["/joint_states"]] == received


def test_recorded_messages_decode_like_live_ones(start_recorder, publish, bag_path):
    recorder = start_recorder(
        "joint_states sensor_msgs/msg/JointState", "camera/image_raw sensor_msgs/msg/Image"
    )
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    publish("camera/image_raw", image_message(image, stamp_ns=5))
    publish("joint_states", joint_state_message(JOINTS, (0.1, 0.2), (0.0, 0.0), stamp_ns=5))
    recorder.stop()
    bag = read_bag(bag_path)
    np.testing.assert_array_equal(image_from_message(bag["/camera/image_raw"][0][2]), image)
    positions = joint_positions_from_message(bag["/joint_states"][0][2], JOINTS[::-1])
    np.testing.assert_array_equal(positions, (0.2, 0.1))


def test_project_messages_can_be_read_without_their_package(start_recorder, publish, bag_path):
    recorder = start_recorder("action_chunk vla_msgs/msg/ActionChunk")
    message = ActionChunk(sequence=7, instruction="pick up the red block", actions=[1.0, 2.0])
    publish("action_chunk", message)
    recorder.stop()
    ((_, _, decoded),) = read_bag(bag_path)["/action_chunk"]
    assert (decoded.sequence, decoded.instruction) == (7, "pick up the red block")
    np.testing.assert_array_equal(decoded.actions, (1.0, 2.0))


def test_mcap_reader_finds_the_definition_of_project_messages(start_recorder, publish, bag_path):
    recorder = start_recorder("action_chunk vla_msgs/msg/ActionChunk")
    publish("action_chunk", ActionChunk())
    recorder.stop()
    with (bag_path / "bag.mcap").open("rb") as stream:
        ((schema, channel, _),) = make_reader(stream).iter_messages()
    assert (schema.name, schema.encoding) == ("vla_msgs/msg/ActionChunk", "ros2msg")
    assert b"MSG: std_msgs/Header" in schema.data
    assert (channel.topic, channel.message_encoding) == ("/action_chunk", "cdr")


def test_type_hash_in_the_bag_is_the_one_that_ros_knows(start_recorder, publish, bag_path):
    recorder = start_recorder("action_chunk vla_msgs/msg/ActionChunk")
    publish("action_chunk", ActionChunk())
    recorder.stop()
    with AnyReader([bag_path]) as reader:
        (connection,) = reader.connections
    share = Path(get_package_share_directory("vla_msgs"))
    description = json.loads((share / "msg" / "ActionChunk.json").read_text())
    assert connection.digest == description["type_hashes"][0]["hash_string"]


def test_message_times_are_those_of_reception_in_order(start_recorder, publish, node, bag_path):
    recorder = start_recorder("text std_msgs/msg/String")
    before = node.get_clock().now().nanoseconds
    publish("text", *(String(data=str(number)) for number in range(5)))
    after = node.get_clock().now().nanoseconds
    recorder.stop()
    times = [time_ns for time_ns, _, _ in read_bag(bag_path)["/text"]]
    assert [before, *times, after] == sorted([before, *times, after])


def test_type_of_a_topic_is_found_in_the_graph(start_recorder, publish, bag_path):
    recorder = start_recorder("text", discovery_period_s=0.1)
    publish("text", String(data="found"))
    recorder.stop()
    assert read_bag(bag_path)["/text"][0][2].data == "found"


@pytest.mark.parametrize("qos_profile", [sensor_subscription_qos(), latched_qos()])
def test_recorder_follows_the_profile_of_the_publisher(
    start_recorder, node, wait_until, bag_path, qos_profile
):
    recorder = start_recorder(
        "text std_msgs/msg/String", discovery_period_s=0.1, flush_period_s=0.1
    )
    publisher = node.create_publisher(String, "text", qos_profile)
    file = bag_path / "bag.mcap"

    def is_recorded():
        publisher.publish(String(data="matched"))
        return file.exists() and b"matched" in file.read_bytes()

    wait_until(is_recorded, "a message in the bag")
    assert recorder.stop() == 0
    profiles = [
        (info.qos_profile.reliability, info.qos_profile.durability)
        for info in node.get_publishers_info_by_topic("text")
    ]
    assert profiles == [(qos_profile.reliability, qos_profile.durability)]


def test_lost_messages_are_counted_and_reported(start_recorder, node, wait_until, bag_path):
    recorder = start_recorder(
        "text std_msgs/msg/String",
        depth=2,
        poll_rate_hz=1.0,
        discovery_period_s=0.1,
        flush_period_s=0.1,
        compress=False,
    )
    # With one message to keep, Fast DDS asks at once whether it has come; with more, every 3 s.
    publisher = node.create_publisher(String, "text", 1)
    wait_until(publisher.get_subscription_count, "the recorder")
    publisher.publish(String(data="the first"))
    file = bag_path / "bag.mcap"
    wait_until(lambda: b"the first" in file.read_bytes(), "the first message in the bag")
    for number in range(50):
        publisher.publish(String(data=str(number)))
    assert publisher.wait_for_all_acked(Duration(seconds=60))
    assert recorder.stop() == 0
    metadata = yaml.safe_load((bag_path / "metadata.yaml").read_text())
    notes = json.loads(metadata["rosbag2_bagfile_information"]["custom_data"]["vla_ros"])
    assert notes["lost_messages"]["/text"] == 51 - len(read_bag(bag_path)["/text"])
    assert "messages were lost" in recorder.output()


@pytest.mark.parametrize("compress", [False, True])
def test_killed_recorder_leaves_its_flushed_messages(
    start_recorder, publish, wait_until, bag_path, compress
):
    recorder = start_recorder("text std_msgs/msg/String", flush_period_s=0.1, compress=compress)
    publish("text", *(String(data=str(number)) for number in range(10)))
    file = bag_path / "bag.mcap"

    def readable_messages():
        if not file.exists():
            return []
        with file.open("rb") as stream:
            return messages_before_the_end(NonSeekingReader(stream))

    wait_until(readable_messages, "the first messages in the file")
    recorder.send(signal.SIGKILL)
    recorder.wait()
    assert readable_messages()
    assert not (bag_path / "metadata.yaml").exists()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_bag_is_complete_after_a_signal(start_recorder, publish, bag_path, signal_number):
    recorder = start_recorder("text std_msgs/msg/String", flush_period_s=60.0)
    publish("text", String(data="last"))
    recorder.send(signal_number)
    assert recorder.wait() == 0
    assert read_bag(bag_path)["/text"][0][2].data == "last"


def test_metadata_lists_the_offered_profiles(start_recorder, publish, bag_path):
    recorder = start_recorder("text std_msgs/msg/String")
    publish("text", String(data="x"), qos_profile=latched_qos())
    recorder.stop()
    metadata = yaml.safe_load((bag_path / "metadata.yaml").read_text())
    (topic,) = metadata["rosbag2_bagfile_information"]["topics_with_message_count"]
    (profile,) = topic["topic_metadata"]["offered_qos_profiles"]
    assert (profile["reliability"], profile["durability"]) == ("reliable", "transient_local")


def test_existing_folder_is_not_overwritten(start_recorder, bag_path):
    bag_path.mkdir()
    recorder = start_recorder("text std_msgs/msg/String")
    assert recorder.wait() == EXIT_CONFIGURATION
    assert "exists already" in recorder.output()


def test_unknown_message_type_is_refused(start_recorder):
    recorder = start_recorder("text no_msgs/msg/Nothing")
    assert recorder.wait() == EXIT_CONFIGURATION
    assert "'no_msgs/msg/Nothing' is not installed" in recorder.output()
