# SPDX-License-Identifier: MIT
"""One goal per change of a gripper, for any wobbling of what is commanded."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.processing.contract import GripperContract
from vla_ros.outputs.gripper_goals import GripperGoals

pytestmark = pytest.mark.ros

TICK_NS = 20_000_000
POSITIONS = st.lists(st.floats(0.0, 0.04), min_size=1, max_size=80)


def make_goals(mode, **changes):
    return GripperGoals(GripperContract(open=0.04, closed=0.0, mode=mode, **changes))


def run(goals, positions, repeat=1):
    """Return the goals and the ticks at which they came."""
    sent = []
    for tick, position in enumerate(p for p in positions for _ in range(repeat)):
        goal = goals.decide(position, tick * TICK_NS)
        if goal is not None:
            sent.append((tick, goal))
    return sent


@pytest.mark.parametrize("mode", ["binary", "continuous"])
@given(positions=POSITIONS)
def test_goals_differ_and_keep_their_distance(mode, positions):
    sent = run(make_goals(mode), positions)
    for (tick, goal), (next_tick, next_goal) in itertools.pairwise(sent):
        assert next_tick - tick >= 12
        assert goal != next_goal


@given(POSITIONS)
def test_a_binary_gripper_only_opens_and_closes(positions):
    assert {goal for _, goal in run(make_goals("binary"), positions, 20)} <= {0.0, 0.04}


@given(POSITIONS)
def test_a_continuous_gripper_ends_where_it_is_commanded_to_be(positions):
    sent = run(make_goals("continuous"), [*positions, *([positions[-1]] * 40)])
    assert sent[-1][1] == positions[-1]


@given(st.lists(st.floats(0.017, 0.023), max_size=80))
def test_wobbling_around_the_threshold_changes_nothing(positions):
    sent = run(make_goals("binary"), [*([0.04] * 20), *positions])
    assert [goal for _, goal in sent] == [0.04]


def test_a_ramp_from_open_to_closed_is_one_goal():
    ramp = [0.04 - 0.001 * tick for tick in range(41)]
    sent = run(make_goals("binary"), [*([0.04] * 20), *ramp, *([0.0] * 20)])
    assert [goal for _, goal in sent] == [0.04, 0.0]


@pytest.mark.parametrize("mode", ["binary", "continuous"])
def test_a_goal_that_is_forgotten_comes_again_once(mode):
    goals = make_goals(mode)
    decided = []
    for tick in range(80):
        if tick == 40:
            goals.forget()
        decided.append(goals.decide(0.04, tick * TICK_NS))
    assert [(tick, goal) for tick, goal in enumerate(decided) if goal is not None] == [
        (13, 0.04),
        (40, 0.04),
    ]
