# SPDX-License-Identifier: MIT
import dataclasses
import io
import json
from pathlib import Path

import PIL.Image
import pytest
import yaml

from vla_core import cli
from vla_core.errors import ConfigError
from vla_core.processing.contract import RobotContract, load_contract
from vla_ros import doctor, stream_measurement
from vla_ros.doctor import Transport
from vla_ros.graph import find_config
from vla_ros.stream_measurement import Arrival, StreamMeasurement, measure_streams

pytestmark = pytest.mark.ros

CONTRACT = load_contract("sim")
CAMERA = CONTRACT.cameras["front"]
SECOND_NS = 10**9


def make_transport(**overrides):
    values = {
        "rmw": "rmw_fastrtps_cpp",
        "profile": None,
        "profile_error": "",
        "segment_bytes": doctor.DEFAULT_SEGMENT_BYTES,
        "free_bytes": 10**10,
    }
    return Transport(**{**values, **overrides})


def make_arrivals(sequences, *, period_s=0.05, age_s=0.01):
    return [
        Arrival(
            received_ns=round((k * period_s + age_s + 100.0) * SECOND_NS),
            stamp_ns=round((k * period_s + 100.0) * SECOND_NS),
            sequence=k,
        )
        for k in sequences
    ]


def make_measurement(**overrides):
    """Return a second of a camera that is as it should be."""
    values = {
        "name": "front",
        "topic": "/front_camera/image_raw",
        "type": "sensor_msgs/msg/Image",
        "duration_s": 1.0,
        "arrivals": make_arrivals(range(20)),
        "types": ("sensor_msgs/msg/Image",),
        "num_publishers": 1,
        "width": CAMERA.width,
        "height": CAMERA.height,
        "num_bytes": CAMERA.width * CAMERA.height * 3,
    }
    return StreamMeasurement(**{**values, **overrides})


def problems(measurement, transport=None):
    findings = doctor.examine_camera(measurement, CAMERA, transport or make_transport())
    return "; ".join(f"{finding.problem} -> {finding.remedy}" for finding in findings)


def test_nothing_is_said_about_a_camera_that_is_as_it_should_be():
    assert problems(make_measurement()) == ""


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"arrivals": [], "num_publishers": 0, "types": ()}, "nobody publishes"),
        ({"arrivals": []}, "nothing arrived, though 1 publish"),
        ({"types": ("sensor_msgs/msg/CompressedImage",)}, "expected sensor_msgs/msg/Image"),
        ({"width": 640, "height": 480}, "640x480, the contract says 192x192"),
        ({"content_error": "image encoding 'yuyv' is not supported"}, "'yuyv'"),
        ({"arrivals": make_arrivals(range(20), age_s=-0.5)}, "0.500 s in the future"),
        ({"arrivals": make_arrivals(range(20), age_s=0.5)}, "0.500 s old"),
        ({"arrivals": make_arrivals([*range(5), *range(15, 20)])}, "50% of the frames were lost"),
        ({"arrivals": make_arrivals(range(5), period_s=0.3)}, "nothing came for 0.300 s"),
    ],
)
def test_camera_problem_is_named(overrides, expected):
    assert expected in problems(make_measurement(**overrides))


LOSING_LARGE_IMAGES = {
    "arrivals": make_arrivals(range(0, 60, 3), period_s=0.03),
    "num_bytes": 640 * 480 * 3,
}


def test_lost_images_larger_than_the_segment_ask_for_the_profile():
    text = problems(make_measurement(**LOSING_LARGE_IMAGES))
    assert "an image has 900 KiB, the shared-memory segment only 512 KiB" in text
    assert "FASTDDS_DEFAULT_PROFILES_FILE=" in text
    assert "fastdds_large_images.xml" in text


def test_lost_images_larger_than_the_profile_ask_for_a_larger_segment():
    transport = make_transport(profile=Path("my.xml"))
    text = problems(make_measurement(**LOSING_LARGE_IMAGES), transport)
    assert "raise segment_size in my.xml" in text


def test_segment_does_not_matter_to_another_middleware():
    transport = make_transport(rmw="rmw_cyclonedds_cpp")
    assert "segment" not in problems(make_measurement(**LOSING_LARGE_IMAGES), transport)


def test_large_images_that_all_arrive_are_no_problem():
    assert problems(make_measurement(num_bytes=640 * 480 * 3)) == ""


def test_losses_are_counted_by_the_numbers_of_the_publisher():
    measurement = make_measurement(arrivals=make_arrivals([0, 1, 2, 5, 6, 9]))
    assert measurement.num_lost == 4


def test_losses_are_counted_by_the_stamps_where_there_are_no_numbers():
    arrivals = [
        dataclasses.replace(arrival, sequence=None)
        for arrival in make_arrivals([0, 1, 2, 5, 6, 7, 8])
    ]
    assert make_measurement(arrivals=arrivals).num_lost == 2


def test_publisher_that_starts_again_is_no_loss():
    arrivals = make_arrivals(range(50, 60)) + make_arrivals(range(70, 80))
    restarted = [
        dataclasses.replace(arrival, sequence=1 + k % 10) for k, arrival in enumerate(arrivals)
    ]
    assert make_measurement(arrivals=restarted).num_lost == 0


def test_shipped_profile_gives_64_mib_of_shared_memory():
    assert doctor.read_segment_bytes(find_config("fastdds_large_images.xml")) == 64 * 1024 * 1024


def test_profile_that_is_no_xml_is_an_error_with_its_path(tmp_path):
    path = tmp_path / "broken.xml"
    path.write_text("<profiles>")
    with pytest.raises(ConfigError, match=r"broken\.xml"):
        doctor.read_segment_bytes(path)


def test_missing_profile_is_found_with_what_to_export():
    transport = Transport.of_process(
        "rmw_fastrtps_cpp", {"FASTDDS_DEFAULT_PROFILES_FILE": "/no/such.xml"}
    )
    (finding,) = (f for f in doctor.examine_transport(transport) if "/no/such.xml" in f.problem)
    assert finding.remedy.startswith("export FASTDDS_DEFAULT_PROFILES_FILE=")


def test_too_little_shared_memory_is_found():
    (finding,) = doctor.examine_transport(make_transport(free_bytes=1024))
    assert finding.subject == "/dev/shm"


def test_python_outside_the_active_environment_is_found():
    (finding,) = doctor.examine_process({"VIRTUAL_ENV": "/somewhere/else"})
    assert "/somewhere/else" in finding.problem


@pytest.mark.parametrize(
    ("num_publishers", "num_subscriptions", "expected"),
    [(0, 1, []), (1, 1, []), (1, 0, ["nobody listens"]), (2, 1, ["2 nodes publish commands"])],
)
def test_ends_of_the_command_topic_are_examined(num_publishers, num_subscriptions, expected):
    findings = doctor.examine_command_topic(CONTRACT, "/c", num_publishers, num_subscriptions)
    found = [finding.problem for finding in findings]
    assert len(found) == len(expected)
    assert all(text in problem for text, problem in zip(expected, found, strict=True))


@pytest.fixture
def patient_contract(tmp_path):
    """The shipped contract, without demands on how fast this machine is."""
    contract = CONTRACT.to_dict()
    for part in (*contract["cameras"].values(), contract["state"]):
        part["max_age_s"] = 30.0
    path = tmp_path / "patient.yaml"
    path.write_text(yaml.safe_dump(contract, sort_keys=False))
    return str(path)


def test_doctor_finds_nothing_wrong_with_the_simulated_robot(
    start_node, patient_contract, node, wait_until, capsys
):
    start_node("sim_robot_node")
    wait_until(lambda: node.count_publishers("joint_states"), "the simulated robot")
    status = cli.main(["doctor", "--robot", patient_contract, "--seconds", "2", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["findings"] == []
    assert status == 0
    assert [stream["name"] for stream in report["streams"]] == ["front", "wrist", "joint states"]
    assert all(stream["received"] > 0 for stream in report["streams"])


def joint_states(topic, joints):
    return make_measurement(
        name="joint states",
        topic=topic,
        type="sensor_msgs/msg/JointState",
        types=("sensor_msgs/msg/JointState",),
        joints=tuple(joints),
    )


def test_joints_that_two_topics_have_together_are_complete():
    arm, gripper = CONTRACT.state.joints[:6], CONTRACT.state.joints[6:]
    parts = [joint_states("/joint_states", arm), joint_states("/gripper/joint_states", gripper)]
    assert list(doctor.examine_joint_states(parts, CONTRACT.state)) == []


def test_joint_that_nobody_publishes_is_found():
    parts = [joint_states("/joint_states", CONTRACT.state.joints[:6])]
    (finding,) = doctor.examine_joint_states(parts, CONTRACT.state)
    assert "nobody publishes gripper_joint; published are joint_1" in finding.problem
    assert "state.extra_topics" in finding.remedy


def test_every_kind_of_source_is_measured(node, wait_until):
    """A compressed and a depth camera, joint states of three publishers, a wrench, a number."""
    import threading

    from geometry_msgs.msg import WrenchStamped
    from sensor_msgs.msg import CompressedImage, Image, JointState
    from std_msgs.msg import Float64

    contract = CONTRACT.to_dict()
    contract["cameras"]["front"] |= {"transport": "compressed", "width": 6, "height": 4}
    contract["cameras"]["wrist"] |= {"depth_range_m": [0.1, 2.0], "width": 6, "height": 4}
    contract["state"]["extra_topics"] = ["gripper/joint_states"]
    contract["inputs"] = {
        "force": {"type": "wrench", "topic": "wrench", "max_age_s": 1.0},
        "opening": {"type": "float64", "topic": "opening", "max_age_s": 1.0},
    }
    contract = RobotContract.from_dict(contract)
    file = io.BytesIO()
    PIL.Image.new("RGB", (6, 4)).save(file, "PNG")
    now = node.get_clock().now().to_msg()
    depth = Image(encoding="16UC1", width=6, height=4, step=12, data=bytes(48))
    joints = list(CONTRACT.state.joints)
    parts = [
        JointState(name=names, position=[0.0] * len(names))
        for names in (joints[:3], joints[3:6], joints[6:])
    ]
    messages = [
        ("front_camera/image_raw", CompressedImage(format="png", data=file.getvalue())),
        ("wrist_camera/image_raw", depth),
        ("joint_states", parts[0]),
        ("joint_states", parts[1]),
        ("gripper/joint_states", parts[2]),
        ("wrench", WrenchStamped()),
        ("opening", Float64()),
    ]
    for _, message in messages[:-1]:
        message.header.stamp = now
    publishers = [node.create_publisher(type(message), topic, 1) for topic, message in messages]
    is_over = threading.Event()

    def publish():
        while not is_over.wait(0.02):
            for publisher, (_, message) in zip(publishers, messages, strict=True):
                publisher.publish(message)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        robot = measure_streams(node, contract, 1.0)
    finally:
        is_over.set()
        thread.join()
    assert {stream.name: stream.content_error for stream in robot.streams} == dict.fromkeys(
        ("front", "wrist", "joint states", "joint states 2", "force", "opening"), ""
    )
    assert [stream.contents for stream in robot.cameras] == ["6x4 png", "6x4 16UC1"]
    assert [len(stream.joints) for stream in robot.joint_states] == [6, 1]
    assert all(len(stream.arrivals) > 1 for stream in robot.streams)


@pytest.fixture
def nobody(ros_domain, monkeypatch):
    """A domain in which there is nobody to wait for."""
    monkeypatch.setattr(stream_measurement, "_DISCOVERY_S", 0.0)


def test_doctor_fails_without_a_robot_and_says_so(nobody, capsys):
    assert cli.main(["doctor", "--seconds", "0.1"]) == 1
    output = capsys.readouterr().out
    assert "/front_camera/image_raw: nobody publishes it" in output
    assert "nobody listens to it" in output


def test_doctor_looks_at_the_topic_of_every_controller(nobody, capsys):
    assert cli.main(["doctor", "--robot", "vx300s", "--seconds", "0.1"]) == 1
    output = capsys.readouterr().out
    for controller in ("arm_controller", "gripper_controller"):
        assert f"/vx300s/{controller}/joint_trajectory: nobody listens to it" in output
