# SPDX-License-Identifier: MIT
"""The commands pause, because their process got no processor: where does the arm go on?"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_core.inference.command_stream import CommandMode

TICK_NS = 20_000_000
LONG = 50  # ticks


def pause(arm, num_ticks, position):
    """Let the ticks pause while the arm gets somewhere; nothing was measured there yet."""
    arm.now_ns += (num_ticks - 1) * TICK_NS
    arm.measured = np.asarray(position)


def after(arm, num_ticks):
    return arm.stream.tick(arm.now_ns, num_elapsed=num_ticks)


@pytest.mark.parametrize("follows_plans", [True, False])
def test_after_a_long_pause_the_arm_goes_on_from_where_it_is_then(make_arm, follows_plans):
    arm = make_arm(follows_plans=follows_plans)
    arm.measure()
    arm.give_chunk()
    arm.tick(10)
    pause(arm, LONG, [-0.4, 0.1])
    arm.give_chunk()
    waiting = after(arm, LONG)
    assert (waiting.mode, waiting.plan) == (CommandMode.HOLDING, None)
    assert waiting.reason == "no joint state came since the ticks have paused"
    arm.now_ns += TICK_NS
    tick = arm.tick()
    assert tick.mode is CommandMode.EXECUTING
    np.testing.assert_array_equal(tick.position, [-0.4, 0.1])
    np.testing.assert_array_equal(tick.velocity, [0.0, 0.0])


def test_a_measurement_from_before_a_long_pause_does_not_count(moving):
    old, old_ns = moving.measured, moving.now_ns - TICK_NS
    pause(moving, LONG, [-0.4, 0.1])
    moving.give_chunk()
    after(moving, LONG)
    moving.stream.put_joint_state(old, old_ns)
    moving.now_ns += TICK_NS
    assert after(moving, 1).plan is None


def test_after_a_long_pause_an_old_chunk_is_not_followed(moving):
    pause(moving, LONG, moving.measured)
    moving.measure()
    tick = after(moving, LONG)
    assert (tick.mode, tick.plan) == (CommandMode.HOLDING, None)
    assert tick.reason.startswith("the observation of the newest chunk is")


def test_along_a_plan_the_arm_is_not_far_from_its_commands_after_a_pause(make_arm):
    """Compared with the command before the pause, it would be."""
    arm = make_arm(max_tracking_error=0.03)
    arm.measure()
    arm.give_chunk(np.linspace([0.0, 0.5], [1.4, 1.9], 16))
    plan = arm.tick(10).plan
    num_ticks = len(plan[0])
    assert np.abs(plan[0][-1] - plan[0][0]).max() > 0.03
    pause(arm, num_ticks, plan[0][-1])
    arm.measure()
    tick = after(arm, num_ticks)
    assert (tick.mode, tick.reason) == (CommandMode.EXECUTING, "")
    np.testing.assert_array_equal(tick.position, plan[0][-1])


@settings(max_examples=60, deadline=None)
@given(
    pauses=st.lists(st.sampled_from([1, 1, 1, 2, 3, 8, 12, LONG]), min_size=10, max_size=60),
    seed=st.integers(0, 2**16),
)
def test_an_arm_that_stays_at_the_last_command_never_gets_one_that_jumps(make_arm, pauses, seed):
    """As one of forward_command_controller, which takes each command for its own."""
    random = np.random.default_rng(seed)
    arm = make_arm(follows_plans=False, max_tracking_error=100.0)
    sent = []
    for num_ticks in pauses:
        pause(arm, num_ticks, arm.measured)
        arm.measure()
        arm.give_chunk(random.uniform(-2, 2, (16, 2)))
        tick = after(arm, num_ticks)
        arm.now_ns += TICK_NS
        if tick.plan is not None:
            arm.measured = tick.plan[0][0]
            sent.append(arm.measured)
    assert len(sent) == len(pauses)
    for before, now in itertools.pairwise(sent):
        assert np.all(np.abs(now - before) <= 1.5 * 0.02 + 1e-9)
