# SPDX-License-Identifier: MIT
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vla_core.inference.step_limit import StepLimit
from vla_core.processing.contract import RobotContract, load_contract

GRIPPER = {"gripper_joint": {"open": 0.045, "closed": 0.0}}
TARGETS = hnp.arrays(np.float64, (3, 7), elements=st.floats(-2.0, 2.0))


def make_limit(**safety):
    data = {**load_contract("sim").to_dict(), "grippers": GRIPPER, "safety": safety}
    return StepLimit(RobotContract.from_dict(data))


@given(TARGETS)
def test_no_target_of_the_arm_is_farther_than_the_largest_step(targets):
    wanted, velocities = targets.copy(), np.ones_like(targets)
    moved = make_limit(max_step=0.1).keep(targets, velocities, np.zeros(7))
    assert np.all(np.abs(targets[:, :6]) <= 0.1)
    np.testing.assert_array_equal(targets[:, 6], wanted[:, 6])
    np.testing.assert_array_equal(velocities == 0.0, targets != wanted)
    assert set(moved) == {f"joint_{i + 1}" for i in range(6) if targets[0, i] != wanted[0, i]}


@given(TARGETS)
def test_without_a_largest_step_nothing_is_moved(targets):
    wanted = targets.copy()
    assert make_limit().keep(targets, np.ones_like(targets), np.zeros(7)) == {}
    np.testing.assert_array_equal(targets, wanted)
