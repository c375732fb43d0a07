# SPDX-License-Identifier: MIT
"""Emergency stop, deadman, arming and rivals, without ROS."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.processing.contract import SafetyContract
from vla_ros.interlocks import Interlocks, RivalCheck

SECOND = 1_000_000_000


def make_interlocks(**safety):
    return Interlocks(SafetyContract(**safety), is_armed=True)


def test_nothing_stops_the_arm_without_a_reason():
    assert make_interlocks().find_reason(0) == ""


def test_an_emergency_stop_stays_until_its_reset():
    interlocks = make_interlocks()
    interlocks.stop("the button was pressed")
    assert "the button was pressed" in interlocks.find_reason(3600 * SECOND)
    assert interlocks.reset()
    assert interlocks.find_reason(3600 * SECOND) == ""


def test_the_first_reason_of_an_emergency_stop_is_kept():
    interlocks = make_interlocks()
    interlocks.stop("first")
    interlocks.stop("second")
    assert interlocks.emergency == "first"


def test_the_beginning_of_an_emergency_stop_is_told_once():
    told = []
    interlocks = Interlocks(
        SafetyContract(), is_armed=True, on_stop=lambda: told.append(interlocks.emergency)
    )
    interlocks.stop("first")
    interlocks.stop("second")
    interlocks.reset()
    interlocks.stop("third")
    assert told == ["first", "third"]


def test_a_reset_says_whether_there_was_something_to_reset():
    assert not make_interlocks().reset()


@pytest.mark.parametrize(
    ("heard", "age_s", "reason"),
    [
        (None, 0.0, "nothing was heard of the deadman on enable"),
        (True, 0.2, ""),
        (True, 0.4, "last heard 0.40 s ago, at most 0.3 s"),
        (False, 0.1, "the deadman on enable is released"),
    ],
)
def test_the_deadman_must_be_held_and_young(heard, age_s, reason):
    interlocks = make_interlocks(deadman_topic="enable", deadman_max_age_s=0.3)
    if heard is not None:
        interlocks.hear_deadman(heard, SECOND)
    found = interlocks.find_reason(SECOND + round(age_s * SECOND))
    assert reason in found
    assert bool(found) == bool(reason)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(0, 19))
def test_one_policy_has_no_rivals_even_if_it_restarts(gaps, restart):
    check = RivalCheck(memory_s=1.0)
    sequence = 0
    for tick, gap in enumerate(gaps):
        sequence = gap if tick == restart else sequence + gap
        check.hear(sequence, tick * SECOND // 10)
        assert not check.has_rivals(tick * SECOND // 10)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_two_policies_that_take_turns_are_noticed(first, second):
    check = RivalCheck(memory_s=1.0)
    for step in range(1, 5):
        check.hear(first + step, step * SECOND // 10)
        check.hear(second + step, step * SECOND // 10)
    assert check.has_rivals(4 * SECOND // 10)


def test_a_rival_that_has_left_is_forgotten():
    check = RivalCheck(memory_s=1.0)
    for sequence in (5, 1, 6, 2, 7):
        check.hear(sequence, 0)
    assert check.has_rivals(SECOND)
    assert not check.has_rivals(2 * SECOND)
