# SPDX-License-Identifier: MIT
"""Which chunks the command stream follows, and what it says of them."""

import numpy as np
import pytest

from vla_core.errors import ChunkError
from vla_core.inference.command_stream import CommandMode

HOME = np.array([0.0, 0.5])


def test_chunk_of_an_older_epoch_is_refused(moving):
    moving.stream.revoke(5, "no instruction", now_ns=moving.now_ns)
    with pytest.raises(ChunkError, match="epoch must be at least 5, got a chunk of 4"):
        moving.give_chunk(epoch=4)
    assert moving.tick().mode is CommandMode.STOPPING


def test_revocation_of_an_older_epoch_is_ignored(moving):
    moving.give_chunk(epoch=5)
    moving.stream.revoke(4, "no instruction", now_ns=moving.now_ns)
    assert moving.tick().mode is CommandMode.EXECUTING


def test_restarted_policy_may_count_its_epochs_anew_once_the_old_one_is_silent(moving):
    moving.stream.revoke(60, "no instruction", now_ns=moving.now_ns)
    with pytest.raises(ChunkError, match="epoch must be at least 60, got a chunk of 1"):
        moving.give_chunk(epoch=1)
    moving.tick(40)
    moving.give_chunk(epoch=1)
    assert moving.tick().mode is CommandMode.EXECUTING
    moving.stream.revoke(2, "no instruction", now_ns=moving.now_ns)
    assert moving.tick().mode is CommandMode.STOPPING


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": [[1e30, 0.0], [-1e30, 0.0]]}, r"actions must be within \+-10000"),
        ({"dt_s": 5e-324}, "dt_s must be from 0.001 to 10 s"),
    ],
)
def test_chunk_with_absurd_numbers_is_refused_and_the_one_before_goes_on(moving, changes, message):
    with pytest.raises(ChunkError, match=message):
        moving.give_chunk(**changes)
    assert moving.tick().mode is CommandMode.EXECUTING


def test_chunk_that_is_not_finite_never_moves_the_arm(moving):
    before = moving.tick().plan
    bad = np.full((16, 2), np.nan)
    with pytest.raises(ChunkError, match="must be finite"):
        moving.give_chunk(bad)
    moving.stream.refuse_chunk("actions must be finite")
    tick = moving.tick()
    np.testing.assert_allclose(tick.plan[0][0], before[0][1], atol=1e-12)
    assert (tick.mode, tick.reason) == (CommandMode.EXECUTING, "actions must be finite")


def test_refused_chunk_of_a_new_instruction_stops_the_arm(moving):
    with pytest.raises(ChunkError):
        moving.give_chunk(np.full((16, 2), np.nan), epoch=2)
    assert moving.tick().mode is CommandMode.STOPPING


def test_chunk_for_joints_in_another_order_is_refused(arm):
    arm.measure()
    with pytest.raises(ChunkError, match="shoulder, elbow"):
        arm.give_chunk(joints=("elbow", "shoulder"))


def test_chunk_without_any_joint_state_is_refused(arm):
    with pytest.raises(ChunkError, match="no joint state"):
        arm.give_chunk()


def test_switch_jump_is_told_in_one_tick_only(moving):
    moving.give_chunk(np.linspace(HOME + 0.3, HOME + 1.0, 16), age_s=0.15)
    jumps = [moving.tick().switch_jump for _ in range(2)]
    assert jumps[0] > 0.0
    assert jumps[1] == 0.0


def test_a_chunk_is_reported_from_when_its_part_of_the_plan_is_reached(make_arm):
    arm = make_arm(commit_s=0.04)
    arm.measure()
    arm.give_chunk()
    assert [arm.tick().chunk_sequence for _ in range(4)] == [0, 0, 1, 1]
    arm.give_chunk()
    assert [arm.tick().chunk_sequence for _ in range(4)] == [1, 1, 2, 2]


def moved_by_steps_that_repeat_the_state(arm):
    """Return how far the elbow gets in 2 s; the chunks come at 25 Hz and begin with the state."""
    ahead = 0.3 * np.array([0.0, 0.0, *np.arange(1, 11)]) * 0.1
    for _ in range(50):
        arm.measure()
        arm.give_chunk(arm.measured + np.outer(ahead, [0.0, 1.0]), age_s=0.0)
        arm.tick(2)
    return arm.measured[1] - HOME[1]


def test_of_chunks_that_come_quickly_an_ensemble_also_follows_the_later_steps(make_arm):
    """A policy whose first steps repeat the state would else hold the arm where it is."""
    ensemble = moved_by_steps_that_repeat_the_state(make_arm(blend_s=0.1, blending="ensemble"))
    newest = moved_by_steps_that_repeat_the_state(make_arm(blend_s=0.1, blending="blend"))
    assert newest < 0.05 * ensemble
