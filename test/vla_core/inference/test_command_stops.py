# SPDX-License-Identifier: MIT
"""The command stream stops with a reason, and goes on when that is gone."""

import numpy as np
import pytest

from vla_core.inference.command_stream import CommandMode

TICK_NS = 20_000_000
HOME = np.array([0.0, 0.5])


def test_old_chunk_stops_the_arm_with_the_reason(moving):
    moving.now_ns += 500_000_000
    tick = moving.tick()
    assert tick.mode is CommandMode.STOPPING
    assert tick.reason.startswith("the observation of the newest chunk is 0.7")


def test_old_joint_state_stops_the_arm_with_the_reason(moving):
    tick = moving.tick(6, measures=False)
    assert tick.mode is CommandMode.STOPPING
    assert tick.reason == "the joint state is 0.120 s old, at most 0.1 s is allowed"


def test_joint_state_from_the_future_stops_the_arm_with_the_reason(moving):
    moving.stream.put_joint_state(moving.measured.copy(), moving.now_ns + 5_000_000_000)
    tick = moving.tick(measures=False)
    assert tick.mode is CommandMode.STOPPING
    assert tick.reason.startswith("the joint state is stamped 5.000 s in the future")


def test_stop_comes_to_rest_and_then_is_silent(moving):
    moving.stream.revoke(2, "no instruction", now_ns=moving.now_ns)
    modes = [moving.tick().mode for _ in range(40)]
    assert modes[0] is CommandMode.STOPPING
    assert modes[-1] is CommandMode.HOLDING
    tick = moving.tick()
    assert (tick.plan, tick.reason) == (None, "no instruction")


def test_stop_of_an_arm_at_rest_is_said_more_than_once(arm):
    arm.measure()
    arm.give_chunk([HOME] * 16)
    arm.tick(5)
    arm.stream.revoke(2, "no instruction", now_ns=arm.now_ns)
    plans = [arm.tick().plan for _ in range(5)]
    assert [plan is not None for plan in plans] == [True, True, True, False, False]
    for positions, velocities in plans[:3]:
        np.testing.assert_allclose(positions, [HOME], atol=1e-9)
        assert not velocities.any()


def test_stop_that_is_called_off_goes_on_without_a_jump(moving):
    moving.stream.revoke(2, "no instruction", now_ns=moving.now_ns)
    plan = moving.tick(2).plan
    moving.give_chunk(epoch=2)
    tick = moving.tick()
    assert tick.mode is CommandMode.EXECUTING
    np.testing.assert_array_equal(tick.position, plan[0][0])


def test_motion_after_a_hold_starts_where_the_arm_is_now(moving):
    moving.stream.revoke(2, "no instruction", now_ns=moving.now_ns)
    moving.tick(40)
    moving.measured = np.array([-0.4, 0.1])
    moving.measure()
    moving.give_chunk(epoch=3)
    np.testing.assert_array_equal(moving.tick().position, [-0.4, 0.1])


def test_arm_that_does_not_follow_is_stopped_and_held(moving):
    for _ in range(3):
        moving.measured = moving.measured + 0.6
        tick = moving.tick()
    assert tick.mode is CommandMode.STOPPING
    assert "from its command" in tick.reason


def test_tracking_fault_outlasts_new_chunks_until_a_new_epoch(moving):
    moving.measured = moving.measured + 0.6
    moving.tick(2)
    moving.give_chunk(epoch=1)
    assert moving.tick(40).mode is CommandMode.HOLDING
    moving.give_chunk(epoch=2)
    assert moving.tick().mode is CommandMode.EXECUTING


def test_broken_joint_states_are_named_once_the_last_good_one_is_old(moving):
    moving.stream.refuse_joint_state("joint state lacks 'elbow'.")
    assert moving.tick(8, measures=False).reason.endswith("joint state lacks 'elbow'.")


def test_clock_that_is_set_back_stops_the_arm_until_joint_states_and_a_chunk_come(arm):
    arm.measure()
    arm.give_chunk(epoch=3)
    assert arm.tick(10).mode is CommandMode.EXECUTING
    arm.now_ns -= 900_000_000
    arm.stream.set_back_clock()
    tick = arm.tick(measures=False)
    assert tick.mode is CommandMode.STOPPING
    assert "the clock was set back" in tick.reason
    assert arm.tick(50).mode is CommandMode.HOLDING
    arm.give_chunk(epoch=1)
    assert arm.tick().mode is CommandMode.EXECUTING


def test_a_stop_reason_brings_the_arm_to_rest_whatever_the_policy_wants(arm):
    arm.measure()
    arm.give_chunk()
    arm.tick(10)
    modes = []
    for _ in range(60):
        arm.measure()
        arm.give_chunk()
        tick = arm.stream.tick(arm.now_ns, stop_reason="emergency stop")
        modes.append(tick.mode)
        arm.now_ns += TICK_NS
    assert modes[0] is CommandMode.STOPPING
    assert modes[-1] is CommandMode.HOLDING
    assert tick.reason == "emergency stop"


@pytest.mark.parametrize(("is_emergency", "num_committed"), [(True, 0), (False, 2)])
def test_an_emergency_stop_does_not_wait_for_what_is_committed(
    make_arm, is_emergency, num_committed
):
    arm = make_arm(commit_s=0.04)
    arm.measure()
    arm.give_chunk(HOME + 0.05 * np.arange(1, 17)[:, None])
    arm.tick(20)
    arm.measure()
    tick = arm.stream.tick(arm.now_ns, stop_reason="stop", is_emergency=is_emergency)
    speeds = np.abs(np.vstack((tick.velocity, tick.plan[1]))).max(axis=1)
    assert np.flatnonzero(np.diff(speeds) < -1e-6)[0] == num_committed


def test_after_a_stop_only_a_later_chunk_is_followed(arm):
    arm.measure()
    arm.give_chunk()
    arm.tick(5)
    arm.stream.tick(arm.now_ns, stop_reason="emergency stop")
    arm.now_ns += TICK_NS
    tick = arm.tick(40)
    assert tick.mode is CommandMode.HOLDING
    arm.give_chunk()
    assert arm.tick().mode is CommandMode.EXECUTING


@pytest.mark.parametrize("kind", ["chunk", "joint state"])
def test_what_is_committed_ends_within_two_ticks_of_the_age_limit(make_arm, kind):
    arm = make_arm(commit_s=0.04, slow_s=0.0, blend_s=0.0)
    arm.measure()
    arm.give_chunk(HOME + 0.1 * np.arange(1, 17)[:, None])
    ticks = [arm.tick() for _ in range(20)]
    limit_ns = arm.now_ns + 80_000_000 if kind == "joint state" else 1_600_000_000
    ticks += [arm.tick(measures=kind == "chunk") for _ in range(30)]
    speeds = np.array([np.abs(tick.velocity).max() for tick in ticks if tick.velocity is not None])
    slower = np.flatnonzero(np.diff(speeds) < -1e-6)
    begin_ns = 1_000_000_000 + int(slower[slower > 18][0]) * TICK_NS
    assert limit_ns - TICK_NS <= begin_ns <= limit_ns + 2 * TICK_NS
    assert kind in ticks[-1].reason
