# SPDX-License-Identifier: MIT
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.errors import MessageError
from vla_core.processing.joint_history import JointHistory

MS = 1_000_000
HOLE_S = 0.1


class Header:
    def __init__(self, stamp_ns):
        self.stamp = self
        self.sec, self.nanosec = divmod(stamp_ns, 1_000_000_000)


class JointState:
    """Has the fields of a message, as both kinds have them."""

    def __init__(self, at_ms, **positions):
        self.header = Header(at_ms * MS)
        self.name = list(positions)
        self.position = list(positions.values())
        self.velocity = [10.0 * value for value in self.position]
        self.effort = []


def history_of(*messages, joints=("a", "b"), fields=("position",)):
    history = JointHistory(joints, fields)
    for message in messages:
        history.add(message)
    return history


def test_messages_of_the_middleware_and_of_bags_are_read(messages):
    history = JointHistory(("joint_1", "joint_2"))
    history.add(messages.joint_state(("joint_2", "joint_1"), (2, 1), stamp=(5, 0)))
    np.testing.assert_array_equal(history.newest().values, [1.0, 2.0])
    assert history.newest_ns == 5_000_000_000


def test_values_between_two_messages_are_interpolated():
    history = history_of(JointState(1000, a=0.0, b=10.0), JointState(1020, b=30.0, a=1.0))
    found = history.at(1005 * MS, HOLE_S)
    np.testing.assert_allclose(found.values, [0.25, 15.0])
    assert found.stamps_ns.tolist() == [1005 * MS] * 2


@given(
    st.lists(st.integers(1000, 1090), min_size=2, max_size=20, unique=True),
    st.integers(1000, 1090),
    st.randoms(use_true_random=False),
)
def test_joint_that_moves_evenly_is_where_it_was_at_every_time(stamps, at_ms, random):
    first, last = min(stamps), max(stamps)
    at_ms = min(max(at_ms, first), last)
    random.shuffle(stamps)
    history = history_of(*(JointState(ms, a=0.5 * ms, b=-ms) for ms in stamps))
    found = history.at(at_ms * MS, HOLE_S)
    np.testing.assert_allclose(found.values, [0.5 * at_ms, -at_ms])
    assert set(found.stamps_ns.tolist()) == {at_ms * MS}


def test_publishers_with_joints_of_their_own_are_merged_each_with_its_age():
    history = history_of(
        JointState(1000, a=1.0),
        JointState(1008, gripper=5.0),
        JointState(1010, a=2.0),
        joints=("gripper", "a"),
    )
    found = history.at(1009 * MS, HOLE_S)
    np.testing.assert_allclose(found.values, [5.0, 1.9])
    assert found.stamps_ns.tolist() == [1008 * MS, 1009 * MS]
    assert found.oldest_ns == 1008 * MS
    assert history.newest_stamps_ns() == {"gripper": 1008 * MS, "a": 1010 * MS}
    np.testing.assert_array_equal(history.newest().values, [5.0, 2.0])


def test_publishers_that_stamp_alike_do_not_push_each_other_out():
    history = history_of(JointState(1000, a=1.0), JointState(1000, b=2.0))
    np.testing.assert_array_equal(history.at(1000 * MS, HOLE_S).values, [1.0, 2.0])


@pytest.mark.parametrize(("at_ms", "used_ms"), [(990, 1000), (1030, 1020)])
def test_outside_the_measurements_the_nearest_counts_and_says_when_it_was(at_ms, used_ms):
    history = history_of(JointState(1000, a=1.0, b=1.0), JointState(1020, a=2.0, b=2.0))
    found = history.at(at_ms * MS, HOLE_S)
    assert found.values.tolist() == [1.0 if used_ms == 1000 else 2.0] * 2
    assert found.stamps_ns.tolist() == [used_ms * MS] * 2


@pytest.mark.parametrize(("at_ms", "used_ms"), [(1100, 1000), (1300, 1400)])
def test_hole_between_two_messages_is_not_bridged(at_ms, used_ms):
    history = history_of(JointState(1000, a=1.0, b=1.0), JointState(1400, a=2.0, b=2.0))
    assert history.at(at_ms * MS, HOLE_S).stamps_ns.tolist() == [used_ms * MS] * 2


def test_fields_follow_each_other_as_the_contract_says():
    history = history_of(JointState(1000, b=2.0, a=1.0), fields=("velocity", "position"))
    np.testing.assert_array_equal(history.newest().values, [10.0, 20.0, 1.0, 2.0])


def test_field_that_the_driver_does_not_send_is_named():
    history = history_of(JointState(1000, a=1.0, b=2.0), fields=("effort",))
    with pytest.raises(MessageError, match="one effort per name, got 0 efforts for 2 names"):
        history.newest()


def test_joint_that_no_message_has_is_named_with_those_that_they_have():
    history = history_of(JointState(1000, a=1.0), JointState(1001, c=1.0))
    assert history.missing_joints() == ["b"]
    for read in (history.newest, lambda: history.at(1000 * MS, HOLE_S)):
        with pytest.raises(MessageError, match="no joint state has 'b'; they have 'c', 'a'"):
            read()


def test_broken_value_counts_only_where_it_is_used():
    history = history_of(JointState(1000, a=1.0, b=1.0), JointState(1010, a=float("nan"), b=1.0))
    assert history.at(1000 * MS, HOLE_S).values.tolist() == [1.0, 1.0]
    with pytest.raises(MessageError, match="must be finite, got a = nan"):
        history.newest()


def test_nothing_is_left_of_a_cleared_history():
    history = history_of(JointState(1000, a=1.0, b=1.0))
    history.clear()
    assert history.newest_ns is None
    assert history.missing_joints() == ["a", "b"]
