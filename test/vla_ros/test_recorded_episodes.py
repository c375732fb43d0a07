# SPDX-License-Identifier: MIT
"""recorder_node: one bag per episode, nothing lost, the disk never full."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from rclpy.duration import Duration
from rclpy.qos import QoSProfile
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image
from std_msgs.msg import String
from vla_msgs.srv import StartEpisode, StopEpisode

from vla_ros.conversions import image_message, latched_qos

pytestmark = pytest.mark.ros

TEXT = "text std_msgs/msg/String"


@pytest.fixture
def start_recorder(start_node, tmp_path):
    def start(*topics, **parameters):
        parameters = {
            "path": "",
            "episodes_path": str(tmp_path / "episodes"),
            "topics": list(topics),
            "discovery_period_s": 0.1,
            **parameters,
        }
        arguments = [f"{name}:={json.dumps(value)}" for name, value in parameters.items()]
        return start_node("recorder_node", *(word for a in arguments for word in ("-p", a)))

    return start


@pytest.fixture
def start_episode(call_service):
    def start(instruction=""):
        request = StartEpisode.Request(instruction=instruction)
        return call_service(StartEpisode, "recorder_node/start_episode", request)

    return start


@pytest.fixture
def stop_episode(call_service):
    def stop(**fields):
        request = StopEpisode.Request(**fields)
        return call_service(StopEpisode, "recorder_node/stop_episode", request)

    return stop


@pytest.fixture
def publisher(node, wait_until):
    """Return a publisher to which the recorder has subscribed, with the profile that fits."""

    def create(kind, topic, qos_profile):
        publisher = node.create_publisher(kind, topic, qos_profile)

        def is_followed():
            found = node.get_subscriptions_info_by_topic(topic)
            return [each.qos_profile.durability for each in found] == [qos_profile.durability]

        wait_until(is_followed, f"the recorder on {topic}")
        wait_until(publisher.get_subscription_count, f"the recorder on {topic}")
        return publisher

    return create


# With one message to keep, Fast DDS asks at once whether it has come; with more, every 3 s.
AT_ONCE = QoSProfile(depth=1)


def say(publisher, text):
    publisher.publish(String(data=text))
    assert publisher.wait_for_all_acked(Duration(seconds=60))


def texts_of(path):
    with AnyReader([Path(path)]) as reader:
        return [
            reader.deserialize(data, connection.msgtype).data
            for connection, _, data in reader.messages()
        ]


def notes_of(path):
    metadata = yaml.safe_load((Path(path) / "metadata.yaml").read_text())
    return json.loads(metadata["rosbag2_bagfile_information"]["custom_data"]["vla_ros"])


def test_each_episode_has_a_bag_of_its_own_messages(
    start_recorder, publisher, start_episode, stop_episode
):
    start_recorder(TEXT)
    texts = publisher(String, "text", AT_ONCE)
    say(texts, "before")
    paths = []
    for number in (1, 2):
        assert start_episode(f"task {number}").success
        say(texts, f"in episode {number}")
        response = stop_episode(task_success=number == 1)
        assert response.success
        assert (response.num_messages, response.num_lost) == (1, 0)
        paths.append(response.path)
        say(texts, "between")
    assert [Path(path).name for path in paths] == ["episode_0001", "episode_0002"]
    assert [texts_of(path) for path in paths] == [["in episode 1"], ["in episode 2"]]


def test_bag_tells_instruction_success_and_stamps(
    start_recorder, publisher, start_episode, stop_episode, node
):
    start_recorder(TEXT)
    publisher(String, "text", AT_ONCE)
    before = node.get_clock().now().nanoseconds
    start_episode("pick up the red block")
    path = stop_episode(task_success=True, note="at the second try").path
    notes = notes_of(path)
    assert notes["instruction"] == "pick up the red block"
    assert notes["success"] is True
    assert notes["note"] == "at the second try"
    stamps = [before, notes["start_ns"], notes["end_ns"], node.get_clock().now().nanoseconds]
    assert stamps == sorted(stamps)


def test_run_and_episode_are_recorded_beside_each_other(
    start_recorder, publisher, start_episode, stop_episode, tmp_path
):
    recorder = start_recorder(TEXT, path=str(tmp_path / "run"))
    texts = publisher(String, "text", AT_ONCE)
    say(texts, "before")
    start_episode()
    say(texts, "within")
    path = stop_episode().path
    assert recorder.stop() == 0
    assert texts_of(path) == ["within"]
    assert texts_of(tmp_path / "run") == ["before", "within"]


def test_episode_begins_with_what_latched_topics_have_said(
    start_recorder, publisher, start_episode, stop_episode, tmp_path
):
    start_recorder(TEXT, path=str(tmp_path / "run"), flush_period_s=0.1)
    texts = publisher(String, "text", latched_qos())
    say(texts, "known from the start")
    start_episode()
    assert texts_of(stop_episode().path) == ["known from the start"]


def test_recorder_that_is_ended_closes_the_episode_without_a_verdict(
    start_recorder, publisher, start_episode
):
    recorder = start_recorder(TEXT)
    texts = publisher(String, "text", AT_ONCE)
    path = start_episode("lift").path
    say(texts, "last")
    assert recorder.stop() == 0
    assert texts_of(path) == ["last"]
    assert notes_of(path)["success"] is None
    assert notes_of(path)["note"] == "the recorder was ended"


def test_second_episode_at_a_time_is_refused(start_recorder, start_episode):
    start_recorder(TEXT)
    path = start_episode().path
    response = start_episode()
    assert not response.success
    assert response.message == f"episode {path} is being recorded; stop it first."


def test_episode_that_was_not_started_cannot_be_stopped(start_recorder, stop_episode):
    start_recorder(TEXT)
    response = stop_episode()
    assert not response.success
    assert response.message == "no episode is being recorded"


def test_full_disk_opens_no_bag(start_recorder, start_episode):
    start_recorder(TEXT, min_free_mib=2**31 - 1)
    response = start_episode()
    assert not response.success
    assert "(min_free_mib) must be; make room" in response.message


def test_bags_are_complete_when_the_disk_gets_full(
    start_recorder, publisher, start_episode, stop_episode, call_service, wait_until, node
):
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    from vla_ros.polled_subscription import PolledSubscription

    start_recorder(TEXT, flush_period_s=0.1)
    texts = publisher(String, "text", AT_ONCE)
    path = start_episode("lift").path
    say(texts, "last")
    request = SetParameters.Request(
        parameters=[Parameter("min_free_mib", value=2**31 - 1).to_parameter_msg()]
    )
    assert (
        call_service(SetParameters, "recorder_node/set_parameters", request).results[0].successful
    )
    wait_until((Path(path) / "metadata.yaml").exists, "the end of the bag")
    assert texts_of(path) == ["last"]
    assert "MiB free" in notes_of(path)["note"]
    assert "MiB free" in stop_episode().message
    diagnostics = PolledSubscription(node, DiagnosticArray, "/diagnostics", 10)

    def reported():
        message = diagnostics.take()
        return message and any(
            status.level == DiagnosticStatus.ERROR and "MiB free" in status.message
            for status in message.status
        )

    wait_until(reported, "the diagnostic")


def test_nothing_is_lost_of_two_vga_cameras(
    start_recorder, publisher, start_episode, stop_episode
):
    cameras = ("left/image_raw", "right/image_raw")
    start_recorder(*(f"{topic} sensor_msgs/msg/Image" for topic in cameras))
    publishers = [publisher(Image, topic, AT_ONCE) for topic in cameras]
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    start_episode()
    num_frames = 60
    for number in range(num_frames):
        for camera in publishers:
            camera.publish(image_message(frame, stamp_ns=number))
        # The publisher must not run away from the transport.
        assert all(camera.wait_for_all_acked(Duration(seconds=60)) for camera in publishers)
    response = stop_episode()
    assert (response.num_messages, response.num_lost) == (2 * num_frames, 0)
    with AnyReader([Path(response.path)]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    assert counts == {f"/{topic}": num_frames for topic in cameras}
