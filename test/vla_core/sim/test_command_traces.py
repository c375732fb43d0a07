# SPDX-License-Identifier: MIT
"""The command stream through the controllers of all distributions, in random traces."""

import pytest

from vla_core.processing.contract import RobotContract
from vla_core.sim.command_traces import UPDATE_NS, Disturbance, TraceFigures, run_trace
from vla_core.sim.trajectory_controller import DISTROS

CALM = Disturbance(
    controller_clock_error_s=0.0, message_delay_s=0.0, message_loss=0.0, missed_ticks=0.0
)
EXACT = ("humble", "jazzy", "kilted")


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


@pytest.mark.parametrize("is_stamped", [True, False])
@pytest.mark.parametrize("distro", DISTROS)
def test_no_message_is_rejected_and_no_command_is_beyond_a_limit(distro, is_stamped):
    figures = run_many(distro, 20, jerk=60.0, is_stamped=is_stamped)
    assert figures.rejections == {}
    assert figures.range_excess < 1e-3
    assert figures.command_velocity <= 1.0 + 1e-9
    assert figures.command_acceleration <= 1.0 + 1e-6
    assert figures.command_jerk <= 1.0 + 1e-6


@pytest.mark.parametrize("blending", ["blend", "ensemble"])
@pytest.mark.parametrize("distro", EXACT)
def test_stamped_trajectories_are_followed_within_all_limits(distro, blending):
    """Latency, lost chunks and wrong clocks of the policy cost nothing."""
    figures = run_many(distro, 15, disturbance=CALM, is_stamped=True, blending=blending)
    assert figures.range_excess <= 1e-9
    assert figures.velocity <= 1.0 + 1e-6
    assert figures.acceleration <= 1.0 + 1e-6
    assert figures.seam_jump > 0.5


@pytest.mark.parametrize("distro", EXACT)
def test_lost_and_late_commands_cost_no_more_than_the_way_the_controller_is_behind(distro):
    """Until it knows better it accelerates the other way; then it steps to where it should be."""
    figures = run_many(distro, 15, is_stamped=True)
    period_s = UPDATE_NS * 1e-9
    behind_s = 0.02 + Disturbance().message_delay_s + period_s
    assert figures.acceleration <= 1.0 + (behind_s / period_s) ** 2
    assert figures.velocity <= 1.0 + 6.0 * behind_s**2 / (1.5 * period_s)


@pytest.mark.parametrize("distro", ["lyrical", "rolling"])
def test_splicing_costs_at_most_one_update(distro):
    figures = run_many(distro, 15, is_stamped=True)
    assert figures.velocity <= 3.0


def test_a_trace_is_the_same_for_the_same_seed():
    first, second, other = (run_trace(make_contract(), "jazzy", seed) for seed in (1, 1, 2))
    assert first == second != other
