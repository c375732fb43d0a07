# SPDX-License-Identifier: MIT
"""The command stream: continuous commands along chunks, always within limits."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_core.errors import ConfigError
from vla_core.inference.command_stream import CommandMode

TICK_NS = 20_000_000
HOME = np.array([0.0, 0.5])


def test_silent_before_the_first_joint_state(arm):
    tick = arm.stream.tick(arm.now_ns)
    assert (tick.mode, tick.plan) == (CommandMode.WAITING, None)
    assert tick.reason == "no joint state was received yet"


def test_silent_before_the_first_chunk(arm):
    tick = arm.tick()
    assert (tick.mode, tick.plan) == (CommandMode.WAITING, None)
    assert tick.reason == "no action chunk was received yet"


def test_motion_starts_at_the_measured_positions_at_rest(arm):
    arm.measured = np.array([0.3, 0.7])
    arm.measure()
    arm.give_chunk()
    tick = arm.tick()
    assert tick.mode is CommandMode.EXECUTING
    np.testing.assert_array_equal(tick.position, [0.3, 0.7])
    np.testing.assert_array_equal(tick.velocity, [0.0, 0.0])


def test_chunk_is_followed_to_its_end(arm):
    arm.measure()
    arm.give_chunk(np.linspace(HOME, HOME + 0.1, 5))
    arm.tick(30)
    np.testing.assert_allclose(arm.measured, HOME + 0.1, atol=1e-5)


def test_a_stream_at_500_hz_follows_a_chunk_within_the_limits(make_arm):
    arm = make_arm(command_hz=500.0)
    arm.measure()
    arm.give_chunk(np.linspace(HOME, HOME + 0.1, 5))
    ticks = [arm.tick() for _ in range(300)]
    np.testing.assert_allclose(arm.measured, HOME + 0.1, atol=1e-5)
    velocities = np.array([tick.velocity for tick in ticks if tick.velocity is not None])
    assert np.abs(velocities).max() <= 1.5 + 1e-9
    assert np.abs(np.diff(velocities, axis=0)).max() <= 6.0 * 0.002 + 1e-9


def test_plan_ends_at_rest(moving):
    positions, velocities = moving.tick().plan
    assert len(positions) == len(velocities) > 3
    assert velocities[0].any()
    assert not velocities[-1].any()


def test_tick_goes_on_exactly_where_the_last_plan_said(moving):
    before, after = moving.tick().plan, moving.tick()
    np.testing.assert_array_equal(after.position, before[0][0])
    np.testing.assert_array_equal(after.velocity, before[1][0])


def test_first_point_is_the_second_of_the_last_plan_when_nothing_changed(moving):
    before, after = moving.tick().plan, moving.tick().plan
    np.testing.assert_allclose(after[0][0], before[0][1], atol=1e-12)
    np.testing.assert_allclose(after[1][0], before[1][1], atol=1e-12)


def test_late_tick_goes_on_where_the_arm_has_followed_the_plan(moving):
    plan = moving.tick().plan
    moving.now_ns += 2 * TICK_NS
    moving.measured = plan[0][2]
    moving.measure()
    tick = moving.stream.tick(moving.now_ns, num_elapsed=3)
    np.testing.assert_array_equal(tick.position, plan[0][2])


def test_very_late_tick_finds_the_arm_at_rest_at_the_end_of_the_plan(moving):
    plan = moving.tick().plan
    moving.now_ns += 100 * TICK_NS
    moving.measured = plan[0][-1]
    moving.measure()
    moving.give_chunk()
    tick = moving.stream.tick(moving.now_ns, num_elapsed=101)
    np.testing.assert_array_equal(tick.position, plan[0][-1])
    np.testing.assert_array_equal(tick.velocity, [0.0, 0.0])


def test_target_out_of_reach_names_the_limited_joint(arm):
    arm.measure()
    arm.give_chunk([[0.0, 9.0]] * 16)
    assert arm.tick().limited_joints == ("elbow",)


@pytest.mark.parametrize(
    "setting", [{"num_lookahead": 2}, {"max_tracking_error": 0.0}, {"start_speed": 0.0}]
)
def test_setting_out_of_range_is_refused(make_arm, setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=name):
        make_arm(**setting)


events = st.lists(
    st.sampled_from(["tick", "tick", "tick", "tick", "chunk", "new instruction", "idle", "gap"]),
    min_size=20,
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(events=events, seed=st.integers(0, 2**16))
def test_whatever_happens_the_commands_keep_the_limits(make_arm, events, seed):
    random = np.random.default_rng(seed)
    arm, epoch = make_arm(max_tracking_error=100.0), 1
    curve = []
    for event in events:
        if event == "chunk":
            arm.measure()
            arm.give_chunk(random.uniform(-3, 3, (16, 2)), epoch=epoch)
        elif event == "new instruction":
            epoch += 1
        elif event == "idle":
            epoch += 1
            arm.stream.revoke(epoch, "no instruction", now_ns=arm.now_ns)
        measures = event != "gap"
        for _ in range(1 if measures else 8):
            tick = arm.tick(measures=measures)
            curve.append((tick.position, tick.velocity))
            if tick.plan is not None:
                assert not tick.plan[1][-1].any()
    limit = 6.0 * 0.02 + 1e-9
    for (position, velocity), (next_position, next_velocity) in itertools.pairwise(curve):
        if position is None or next_position is None:
            continue
        assert np.all(np.abs(next_velocity) <= 1.5 + 1e-9)
        assert np.all(np.abs(next_position) <= 2.0 + 1e-9)
        assert np.all(np.abs(next_velocity - velocity) <= limit)
        middle = position + 0.01 * (velocity + next_velocity)
        np.testing.assert_allclose(next_position, middle, atol=1e-7)
