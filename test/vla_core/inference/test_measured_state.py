# SPDX-License-Identifier: MIT
import numpy as np
import pytest

from vla_core.inference.measured_state import MeasuredState

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("age_s", "fault"),
    [(0.05, ""), (0.2, "0.200 s old, at most 0.1 s"), (-0.2, "0.200 s in the future")],
)
def test_a_state_is_good_while_it_is_young(age_s, fault):
    state = MeasuredState(0.1)
    state.put(np.zeros(2), SECOND)
    found = state.find_fault(SECOND + round(age_s * SECOND))
    assert fault in found
    assert bool(found) == bool(fault)


def test_a_refused_state_explains_why_the_last_good_one_is_old():
    state = MeasuredState(0.1)
    state.put(np.zeros(2), SECOND)
    state.refuse("elbow is not finite")
    assert state.find_fault(SECOND) == ""
    assert "elbow is not finite" in state.find_fault(2 * SECOND)


def test_before_the_first_state_there_is_none():
    assert "no joint state was received yet" in MeasuredState(0.1).find_fault(0)


def test_what_was_measured_up_to_a_time_is_forgotten():
    state = MeasuredState(0.1)
    state.put(np.zeros(2), SECOND)
    state.forget("it may be elsewhere", SECOND)
    state.put(np.zeros(2), SECOND - 1)
    assert state.find_fault(SECOND) == "it may be elsewhere"
    state.put(np.ones(2), SECOND + 1)
    assert state.find_fault(SECOND + 1) == ""
    state.forget("it may be elsewhere", SECOND)
    assert state.find_fault(SECOND + 1) == ""
