# SPDX-License-Identifier: MIT
import numpy as np
import pytest

from vla_core.errors import MessageError
from vla_core.processing.messages import (
    joint_positions_from_message,
    prefix_joints,
    stamp_ns,
)

JOINTS = ("joint_1", "joint_2", "gripper_joint")


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


def test_joints_of_two_equal_arms_get_the_prefix_of_their_topic(messages):
    message = prefix_joints(messages.joint_state(("waist", "elbow"), (1, 2)), "left/")
    assert list(message.name) == ["left/waist", "left/elbow"]
    np.testing.assert_array_equal(joint_positions_from_message(message, ["left/elbow"]), [2.0])


def test_joints_without_a_prefix_keep_their_names(messages):
    message = prefix_joints(messages.joint_state(("waist", "elbow"), (1, 2)), "")
    assert list(message.name) == ["waist", "elbow"]
