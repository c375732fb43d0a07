# SPDX-License-Identifier: MIT
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.errors import MessageError
from vla_ros.conversions import joint_state_message
from vla_ros.measured_joints import MeasuredJoints

pytestmark = pytest.mark.ros

JOINTS = ("shoulder", "elbow", "gripper")


def state(stamp_ns=1, **positions):
    return joint_state_message(
        list(positions), list(positions.values()), [0.0] * len(positions), stamp_ns=stamp_ns
    )


@given(st.permutations(JOINTS))
def test_joints_are_found_by_name_in_any_order(names):
    measured = MeasuredJoints(JOINTS)
    measured.take([state(**{name: float(JOINTS.index(name)) for name in names})])
    assert measured.positions.tolist() == [0.0, 1.0, 2.0]


def test_messages_of_several_publishers_are_merged():
    measured = MeasuredJoints(JOINTS)
    measured.take([state(stamp_ns=10, elbow=1.0, shoulder=0.0)])
    assert measured.missing == ("gripper",)
    measured.take([state(stamp_ns=20, gripper=2.0, camera_pan=9.0)])
    assert measured.missing == ()
    assert measured.positions.tolist() == [0.0, 1.0, 2.0]


def test_the_oldest_joint_gives_the_stamp():
    measured = MeasuredJoints(JOINTS)
    measured.take([state(stamp_ns=10, gripper=0.0), state(stamp_ns=20, shoulder=0.0, elbow=0.0)])
    measured.take([state(stamp_ns=30, shoulder=0.0, elbow=0.0)])
    assert measured.stamp_ns == 10


def test_a_position_that_is_not_finite_is_refused_by_name():
    measured = MeasuredJoints(JOINTS)
    with pytest.raises(MessageError, match="elbow is not finite"):
        measured.take([state(shoulder=0.0, elbow=float("nan"), gripper=0.0)])


def test_nan_of_a_joint_that_nobody_wants_does_no_harm():
    measured = MeasuredJoints(JOINTS)
    measured.take([state(shoulder=0.0, elbow=0.0, gripper=0.0, wheel=float("nan"))])
    assert measured.missing == ()


def test_a_message_without_positions_is_refused():
    message = state(shoulder=0.0)
    message.position = []
    with pytest.raises(MessageError, match="got 0 for 1"):
        MeasuredJoints(JOINTS).take([message])


def test_positions_that_are_kept_do_not_change_later():
    measured = MeasuredJoints(JOINTS)
    measured.take([state(shoulder=0.0, elbow=0.0, gripper=0.0)])
    kept = measured.positions
    measured.take([state(shoulder=5.0)])
    assert kept.tolist() == [0.0, 0.0, 0.0]
    assert np.isfinite(measured.positions).all()
