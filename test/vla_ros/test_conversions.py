# SPDX-License-Identifier: MIT
from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from hypothesis import given
from hypothesis import strategies as st
from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from vla_msgs.msg import ActionChunk

from vla_core import types
from vla_core.errors import MessageError, ShapeError
from vla_core.processing.chunk_messages import action_chunk_from_message
from vla_core.processing.contract import ACTION_KINDS
from vla_core.processing.image_encodings import image_from_message
from vla_core.processing.messages import (
    joint_positions_from_message,
    stamp_ns,
    time_ns,
)
from vla_ros import conversions

pytestmark = pytest.mark.ros

JOINTS = ("a", "b", "c")


def over_the_wire(message):
    """Return what a subscriber gets."""
    return deserialize_message(serialize_message(message), type(message))


def make_chunk(**overrides):
    rng = np.random.default_rng(0)
    values = {
        "actions": rng.normal(size=(4, 3)),
        "policy_actions": rng.normal(size=(4, 3)).astype(np.float32),
        "joints": JOINTS,
        "dt_s": 0.1,
        "stamp_ns": 1_700_000_000_123_456_789,
        "checkpoint_id": "abc",
        "instruction": "pick up the red block",
    }
    return types.ActionChunk(**{**values, **overrides})


def make_chunk_message(**overrides):
    message = conversions.action_chunk_message(
        make_chunk(),
        sequence=3,
        epoch=2,
        inference_start_ns=10,
        generation_ns=20,
        image_stamps_ns={"front": 5, "wrist": 6},
        state_stamp_ns=7,
    )
    for name, value in overrides.items():
        setattr(message, name, value)
    return message


@given(st.integers(min_value=0, max_value=2**31 * 10**9 - 1))
def test_stamp_survives_the_message(nanoseconds):
    assert time_ns(conversions.time_message(nanoseconds)) == nanoseconds


def test_negative_stamp_is_refused():
    with pytest.raises(MessageError, match="-1"):
        conversions.time_message(-1)


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [(0.0, (0, 0)), (0.02, (0, 20_000_000)), (1.5, (1, 500_000_000)), (-0.5, (-1, 500_000_000))],
)
def test_duration_is_whole_seconds_and_positive_nanoseconds(duration_s, expected):
    message = conversions.duration_message(duration_s)
    assert isinstance(message, Duration)
    assert (message.sec, message.nanosec) == expected


@pytest.mark.parametrize("duration_s", [float("nan"), float("inf")])
def test_duration_that_is_not_finite_is_refused(duration_s):
    with pytest.raises(MessageError, match="finite"):
        conversions.duration_message(duration_s)


def test_joint_state_is_read_back_by_name():
    message = conversions.joint_state_message(JOINTS, [1, 2, 3], [4.0, 5.0, 6.0], stamp_ns=42)
    received = over_the_wire(message)
    np.testing.assert_array_equal(joint_positions_from_message(received, ("c", "a")), (3.0, 1.0))
    assert list(received.velocity) == [4.0, 5.0, 6.0]
    assert stamp_ns(received) == 42


@pytest.mark.parametrize(
    ("encoding", "channels"), [("rgb8", 3), ("bgr8", 3), ("rgba8", 4), ("bgra8", 4), ("mono8", 1)]
)
def test_image_of_every_encoding_carries_its_pixels(encoding, channels):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    message = conversions.image_message(pixels, stamp_ns=1, frame_id="eye", encoding=encoding)
    received = over_the_wire(message)
    assert bytes(received.data) == pixels.tobytes()
    assert (received.height, received.width, received.step) == (4, 5, 5 * channels)
    assert (received.encoding, received.header.frame_id) == (encoding, "eye")


def test_image_that_is_no_contiguous_array_is_read_back():
    pixels = np.random.default_rng(2).integers(0, 256, (6, 8, 3), dtype=np.uint8)[::2, ::-1]
    received = over_the_wire(conversions.image_message(pixels, stamp_ns=1))
    np.testing.assert_array_equal(image_from_message(received), pixels)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 5, 3)), np.zeros((4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8)]
)
def test_image_that_does_not_fit_its_encoding_is_refused(image):
    with pytest.raises(ShapeError, match=r"uint8 \[H, W, 3\]"):
        conversions.image_message(image, stamp_ns=1)


def test_unknown_encoding_is_refused_with_the_available_ones():
    with pytest.raises(MessageError, match=r"'yuyv'.*rgb8"):
        conversions.image_message(np.zeros((4, 5, 3), np.uint8), stamp_ns=1, encoding="yuyv")


def test_camera_info_projects_the_edge_of_the_field_of_view_to_the_edge_of_the_image():
    fov = 1.0
    message = conversions.camera_info_message(
        width=64, height=48, vertical_fov_rad=fov, stamp_ns=1
    )
    matrix = np.array(message.k).reshape(3, 3)
    row = (matrix @ [0.0, np.tan(fov / 2), 1.0])[1]
    assert row == pytest.approx(48 - 0.5)


@pytest.mark.parametrize("fov", [0.0, np.pi, -1.0])
def test_field_of_view_out_of_range_is_refused(fov):
    with pytest.raises(MessageError, match="vertical_fov_rad"):
        conversions.camera_info_message(width=4, height=4, vertical_fov_rad=fov, stamp_ns=1)


def test_trajectory_has_a_point_per_row():
    positions = np.arange(6.0).reshape(2, 3)
    message = over_the_wire(
        conversions.joint_trajectory_message(JOINTS, positions, -positions, [0.02, 1.04])
    )
    assert message.joint_names == list(JOINTS)
    assert stamp_ns(message) == 0
    for point, row in zip(message.points, positions, strict=True):
        np.testing.assert_array_equal(point.positions, row)
        np.testing.assert_array_equal(point.velocities, -row)
        assert len(point.accelerations) == len(point.effort) == 0
    times = [(p.time_from_start.sec, p.time_from_start.nanosec) for p in message.points]
    assert times == [(0, 20_000_000), (1, 40_000_000)]


def test_trajectory_without_velocities_leaves_the_field_empty():
    message = conversions.joint_trajectory_message(JOINTS, np.zeros((2, 3)), None, [0.1, 0.2])
    assert [len(point.velocities) for point in message.points] == [0, 0]


@pytest.mark.parametrize(
    ("positions", "velocities", "times", "expected"),
    [
        (np.zeros((2, 4)), np.zeros((2, 4)), [0.1, 0.2], "positions"),
        (np.zeros((2, 3)), np.zeros((1, 3)), [0.1, 0.2], "velocities"),
        (np.zeros((2, 3)), np.zeros((2, 3)), [0.1], "times_s"),
    ],
)
def test_trajectory_of_arrays_that_do_not_fit_is_refused(positions, velocities, times, expected):
    with pytest.raises(ShapeError, match=f"^{expected}"):
        conversions.joint_trajectory_message(JOINTS, positions, velocities, times)


@pytest.mark.parametrize("kind", ACTION_KINDS)
def test_action_chunk_survives_the_message(kind):
    chunk = make_chunk(kind=kind)
    message = conversions.action_chunk_message(
        chunk,
        sequence=3,
        epoch=2,
        inference_start_ns=10,
        generation_ns=20,
        image_stamps_ns={"front": 5, "wrist": 6},
        state_stamp_ns=7,
        committed_steps=1,
    )
    received = action_chunk_from_message(over_the_wire(message))
    np.testing.assert_array_equal(received.actions, chunk.actions)
    np.testing.assert_array_equal(received.policy_actions, chunk.policy_actions)
    for name in ("joints", "dt_s", "stamp_ns", "checkpoint_id", "instruction", "kind"):
        assert getattr(received, name) == getattr(chunk, name)


def test_action_chunk_message_carries_the_stamps_of_what_it_saw():
    message = over_the_wire(make_chunk_message())
    assert message.camera_names == ["front", "wrist"]
    assert [time_ns(stamp) for stamp in message.camera_stamps] == [5, 6]
    assert time_ns(message.joint_state_stamp) == 7
    assert time_ns(message.inference_start_stamp) == 10
    assert time_ns(message.generation_stamp) == 20
    assert (message.sequence, message.epoch) == (3, 2)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"horizon": 5}, "horizon"),
        ({"joint_names": ["a", "b"]}, "joint_names"),
        ({"policy_actions": [0.0] * 11}, "policy_actions"),
        ({"horizon": 0, "actions": [], "policy_actions": []}, "at least one"),
        ({"actions": [float("nan")] * 12}, "actions must be finite"),
        ({"policy_actions": [float("inf")] * 12}, "policy_actions must be finite"),
        ({"dt": 0.0}, "dt"),
        ({"dt": float("nan")}, "dt"),
        ({"kind": 99}, "99"),
    ],
)
def test_damaged_action_chunk_is_refused(overrides, expected):
    with pytest.raises(MessageError, match=expected):
        action_chunk_from_message(make_chunk_message(**overrides))


def test_every_action_kind_of_a_contract_has_a_constant():
    assert set(conversions.ACTION_KINDS) == set(ACTION_KINDS)
    assert conversions.ACTION_KINDS["joint_position"] == ActionChunk.JOINT_POSITION


def test_chunk_of_an_unknown_kind_is_refused_with_the_available_ones():
    chunk = SimpleNamespace(kind="joint_torque")
    with pytest.raises(MessageError, match=r"'joint_torque'.*joint_position"):
        conversions.action_chunk_message(
            chunk,
            sequence=1,
            epoch=1,
            inference_start_ns=0,
            generation_ns=0,
            image_stamps_ns={},
            state_stamp_ns=0,
        )


def test_profiles_keep_only_the_newest_where_only_that_counts():
    for profile in (
        conversions.sensor_subscription_qos(),
        conversions.command_qos(),
        conversions.latched_qos(),
    ):
        assert (profile.history, profile.depth) == (HistoryPolicy.KEEP_LAST, 1)


def test_sensor_subscription_matches_every_publisher():
    assert conversions.sensor_subscription_qos().reliability == ReliabilityPolicy.BEST_EFFORT
    assert conversions.sensor_publisher_qos().reliability == ReliabilityPolicy.RELIABLE


def test_latched_profile_serves_late_joiners():
    assert conversions.latched_qos().durability == DurabilityPolicy.TRANSIENT_LOCAL
