# SPDX-License-Identifier: MIT
import array

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from vla_core.errors import MessageError
from vla_core.processing.messages import (
    SUPPORTED_ENCODINGS,
    image_from_message,
    joint_positions_from_message,
    stamp_ns,
)

JOINTS = ("joint_1", "joint_2", "gripper_joint")
TYPES = get_typestore(Stores.ROS2_JAZZY).types


class BagMessages:
    """Messages as rosbags reads them: frozen dataclasses around numpy arrays."""

    def header(self, sec=0, nanosec=0):
        time = TYPES["builtin_interfaces/msg/Time"](sec, nanosec)
        return TYPES["std_msgs/msg/Header"](time, "camera")

    def image(self, encoding, height, width, step, data, is_bigendian=0):
        data = np.frombuffer(bytes(data), np.uint8)
        image = TYPES["sensor_msgs/msg/Image"]
        return image(self.header(), height, width, encoding, is_bigendian, step, data)

    def joint_state(self, name, position, stamp=(0, 0)):
        position, empty = np.array(position, np.float64), np.zeros(0)
        state = TYPES["sensor_msgs/msg/JointState"]
        return state(self.header(*stamp), list(name), position, empty, empty)


class LiveMessages:
    """Messages as rclpy delivers them: properties around array.array."""

    def __init__(self):
        self.msg = pytest.importorskip("sensor_msgs.msg", reason="needs ROS 2 messages")

    def image(self, encoding, height, width, step, data, is_bigendian=0):
        message = self.msg.Image(encoding=encoding, height=height, width=width, step=step)
        message.is_bigendian = is_bigendian
        message.data = array.array("B", bytes(data))
        return message

    def joint_state(self, name, position, stamp=(0, 0)):
        message = self.msg.JointState(name=list(name), position=[float(p) for p in position])
        message.header.stamp.sec, message.header.stamp.nanosec = stamp
        return message


@pytest.fixture(params=["bag", "live"])
def messages(request):
    return BagMessages() if request.param == "bag" else LiveMessages()


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def encode(rgb, encoding):
    alpha = np.full((*rgb.shape[:2], 1), 77, np.uint8)
    return {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.concatenate((rgb, alpha), axis=-1),
        "bgra8": np.concatenate((rgb[..., ::-1], alpha), axis=-1),
        "mono8": rgb[..., :1],
    }[encoding]


@pytest.mark.parametrize("is_bigendian", [0, 1])
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", SUPPORTED_ENCODINGS)
def test_every_encoding_decodes_to_rgb(messages, rgb, encoding, padding, is_bigendian):
    rows = encode(rgb, encoding).reshape(4, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    message = messages.image(encoding, 4, 6, padded.shape[1], padded.tobytes(), is_bigendian)
    expected = np.repeat(rgb[..., :1], 3, axis=-1) if encoding == "mono8" else rgb
    np.testing.assert_array_equal(image_from_message(message), expected)


def test_decoding_copies_nothing(messages, rgb):
    message = messages.image("rgb8", 4, 6, 18, rgb.tobytes())
    pixels = image_from_message(message)
    assert np.shares_memory(pixels, np.frombuffer(message.data, np.uint8))
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("encoding", ["16UC1", "bayer_rggb8", "rgb16", ""])
def test_another_encoding_is_refused_with_the_supported_ones(messages, encoding):
    message = messages.image(encoding, 2, 2, 8, bytes(16))
    with pytest.raises(MessageError, match=f"'{encoding}' is not supported.*'rgb8'.*'mono8'"):
        image_from_message(message)


@pytest.mark.parametrize(
    ("height", "width", "step", "num_bytes", "expected"),
    [
        (4, 6, 18, 71, r"must be 72 bytes \(step 18 x height 4\), got 71"),
        (4, 6, 18, 73, r"must be 72 bytes.*got 73"),
        (4, 6, 18, 0, r"must be 72 bytes.*got 0"),
        (4, 6, 17, 68, r"step must be at least 18 bytes for 6 pixels of rgb8, got 17"),
        (0, 6, 18, 0, r"must have pixels, got 6x0"),
        (4, 0, 0, 0, r"must have pixels, got 0x4"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(
    messages, height, width, step, num_bytes, expected
):
    message = messages.image("rgb8", height, width, step, bytes(num_bytes))
    with pytest.raises(MessageError, match=expected):
        image_from_message(message)


def test_joints_come_in_the_order_asked_for(messages):
    message = messages.joint_state(("gripper_joint", "joint_2", "other", "joint_1"), (3, 2, 9, 1))
    positions = joint_positions_from_message(message, JOINTS)
    assert positions.dtype == np.float64
    np.testing.assert_array_equal(positions, [1.0, 2.0, 3.0])


def test_a_lacking_joint_is_named_with_those_present(messages):
    message = messages.joint_state(("joint_1", "joint_2"), (1, 2))
    with pytest.raises(MessageError, match="lacks 'gripper_joint'; it has 'joint_1', 'joint_2'"):
        joint_positions_from_message(message, JOINTS)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_position_that_is_not_finite_is_refused(messages, bad):
    message = messages.joint_state(JOINTS, (1, bad, 3))
    with pytest.raises(MessageError, match=rf"must be finite, got joint_2 = {bad}"):
        joint_positions_from_message(message, JOINTS)


def test_a_position_that_is_not_finite_does_not_matter_for_a_joint_not_asked_for(messages):
    message = messages.joint_state((*JOINTS, "other"), (1, 2, 3, float("nan")))
    np.testing.assert_array_equal(joint_positions_from_message(message, JOINTS), [1.0, 2.0, 3.0])


@pytest.mark.parametrize("position", [(), (1, 2), (1, 2, 3, 4)])
def test_a_position_per_name_is_required(messages, position):
    message = messages.joint_state(JOINTS, position)
    with pytest.raises(MessageError, match=f"got {len(position)} positions for 3 names"):
        joint_positions_from_message(message, JOINTS)


def test_a_joint_named_twice_is_refused(messages):
    message = messages.joint_state((*JOINTS, "joint_1"), (1, 2, 3, 4))
    with pytest.raises(MessageError, match="names 'joint_1' more than once"):
        joint_positions_from_message(message, JOINTS)


def test_stamp_keeps_every_nanosecond(messages):
    message = messages.joint_state(JOINTS, (1, 2, 3), stamp=(1_700_000_000, 123_456_789))
    assert stamp_ns(message) == 1_700_000_000_123_456_789
