# SPDX-License-Identifier: MIT
"""The command stream through the controllers of all distributions, in random traces."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_core.processing.contract import RobotContract
from vla_core.sim.command_traces import Disturbance, TraceFigures, run_trace
from vla_core.sim.trajectory_controller import DISTROS

IN_TIME = Disturbance(controller_clock_error_s=0.0, message_delay_s=0.0)
REPLACING = [("humble", None), ("jazzy", None), ("kilted", None), ("rolling", False)]


def make_contract(jerk=None) -> RobotContract:
    limits = {"lower": -1.5, "upper": 2.0, "velocity": 1.5, "acceleration": 6.0, "jerk": jerk}
    return RobotContract.from_dict(
        {
            "robot": "two_joints",
            "cameras": {"front": {"topic": "image", "width": 8, "height": 8, "max_age_s": 0.2}},
            "state": {"topic": "joint_states", "joints": ["a", "b"], "max_age_s": 0.1},
            "action": {
                "kind": "joint_position",
                "joints": ["a", "b"],
                "rate_hz": 10.0,
                "max_age_s": 1.0,
            },
            "command": {"rate_hz": 50.0, "output": "joint_trajectory", "topic": "trajectory"},
            "limits": {"a": limits, "b": {**limits, "jerk": None}},
        }
    )


def run_many(distro, num, *, jerk=None, **settings) -> TraceFigures:
    figures = TraceFigures()
    for seed in range(num):
        figures.add(run_trace(make_contract(jerk), distro, seed, num_ticks=30, **settings))
    assert figures.num_messages > 5 * num
    return figures


@pytest.mark.parametrize("distro", DISTROS)
def test_no_message_is_rejected_and_no_command_is_beyond_a_limit(distro):
    figures = run_many(distro, 20, jerk=60.0)
    assert figures.rejections == {}
    assert figures.range_excess < 1e-3
    assert figures.command_velocity <= 1.0 + 1e-9
    assert figures.command_acceleration <= 1.0 + 1e-6
    assert figures.command_jerk <= 1.0 + 1e-6


@pytest.mark.parametrize(("distro", "replacement"), REPLACING)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    jerk=st.sampled_from((None, 60.0)),
    blending=st.sampled_from(("blend", "ensemble")),
)
def test_lost_and_late_trajectories_leave_the_arm_within_all_limits(
    distro, replacement, seed, jerk, blending
):
    figures = run_trace(
        make_contract(jerk),
        distro,
        seed,
        num_ticks=30,
        blending=blending,
        allow_trajectory_replacement=replacement,
    )
    assert figures.rejections == {}
    assert figures.range_excess <= 1e-9
    assert figures.velocity <= 1.0 + 1e-6
    assert figures.acceleration <= 1.0 + 1e-6
    assert figures.jerk <= 1.0 + 1e-6


def test_what_nothing_is_committed_for_costs_a_step():
    figures = run_many("jazzy", 15, commit_s=0.0)
    assert figures.acceleration > 1.5


def test_splicing_follows_what_comes_in_time_and_hurries_for_an_update_where_it_does_not():
    exact = run_many("rolling", 15, disturbance=IN_TIME)
    assert exact.acceleration <= 1.0 + 1e-6
    spliced = run_many("rolling", 15)
    assert spliced.range_excess <= 1e-9
    assert 1.0 < spliced.velocity <= 3.0


def test_a_trace_is_the_same_for_the_same_seed():
    first, second, other = (run_trace(make_contract(), "jazzy", seed) for seed in (1, 1, 2))
    assert first == second != other
