# SPDX-License-Identifier: MIT
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_core.errors import ConfigError, SafetyError
from vla_core.inference.action_chunks import ChunkSampler
from vla_core.inference.safety import CommandLimiter
from vla_core.processing.contract import JointLimits, load_contract
from vla_core.types import ActionChunk

SLACK = 1e-9


def make_limiter(dt_s=0.02, num_joints=2, **overrides):
    limits = {"lower": -1.0, "upper": 1.0, "velocity": 2.0, "acceleration": 8.0, **overrides}
    return CommandLimiter({f"joint_{i}": JointLimits(**limits) for i in range(num_joints)}, dt_s)


@st.composite
def limiters(draw):
    limits = {}
    for i in range(draw(st.integers(1, 3))):
        lower = draw(st.floats(-3.0, 3.0))
        limits[f"joint_{i}"] = JointLimits(
            lower=lower,
            upper=lower + draw(st.floats(0.01, 6.0)),
            velocity=draw(st.floats(0.05, 5.0)),
            acceleration=draw(st.floats(0.1, 50.0)),
        )
    return CommandLimiter(limits, draw(st.sampled_from((0.002, 0.005, 0.02, 0.05))))


def random_run(limiter, seed, num_ticks=60):
    """Yield the last and the next command while chasing targets that jump at random."""
    rng = np.random.default_rng(seed)
    num = len(limiter.joints)
    position, velocity = rng.uniform(limiter.lower, limiter.upper), np.zeros(num)
    target, target_velocity = position, None
    for _ in range(num_ticks):
        if rng.random() < 0.3:
            wide = rng.choice((0.01, 1.0, 5.0))
            target = rng.uniform(limiter.lower - wide, limiter.upper + wide)
            target_velocity = rng.choice((None, 1))
            if target_velocity is not None:
                target_velocity = rng.uniform(-8.0, 8.0, num)
        command = limiter.limit(target, position, velocity, target_velocity)
        yield position, velocity, command
        position, velocity = command.position, command.velocity


@settings(max_examples=80, deadline=None)
@given(limiters(), st.integers(0, 2**32 - 1))
def test_no_command_is_ever_outside_a_limit(limiter, seed):
    for position, velocity, command in random_run(limiter, seed):
        assert (command.position >= limiter.lower - SLACK).all()
        assert (command.position <= limiter.upper + SLACK).all()
        assert (np.abs(command.velocity) <= limiter.velocity + SLACK).all()
        step = (limiter.acceleration + SLACK) * limiter.dt_s + SLACK
        assert (np.abs(command.velocity - velocity) <= step).all()
        moved = (velocity + command.velocity) / 2.0 * limiter.dt_s
        np.testing.assert_allclose(command.position, position + moved, atol=SLACK)


@settings(max_examples=40, deadline=None)
@given(limiters(), st.integers(0, 2**32 - 1))
def test_the_way_between_two_commands_is_inside_the_limits_too(limiter, seed):
    for position, velocity, command in random_run(limiter, seed):
        for u in (0.1, 0.3, 0.5, 0.7, 0.9):
            t = u * limiter.dt_s
            acceleration = (command.velocity - velocity) / limiter.dt_s
            between = position + velocity * t + acceleration * t * t / 2.0
            assert (between >= limiter.lower - SLACK).all()
            assert (between <= limiter.upper + SLACK).all()


@settings(max_examples=40, deadline=None)
@given(limiters(), st.integers(0, 2**32 - 1))
def test_every_reachable_state_stops_inside_the_limits(limiter, seed):
    for _, _, command in random_run(limiter, seed, num_ticks=25):
        positions, velocities = limiter.stop_trajectory(command.position, command.velocity)
        assert (velocities[-1] == 0.0).all()
        assert (positions >= limiter.lower - SLACK).all()
        assert (positions <= limiter.upper + SLACK).all()
        all_velocities = np.vstack((command.velocity, velocities))
        changes = np.abs(np.diff(all_velocities, axis=0))
        assert (changes <= limiter.acceleration * limiter.dt_s + SLACK).all()
        all_positions = np.vstack((command.position, positions))
        moved = (all_velocities[:-1] + all_velocities[1:]) / 2.0 * limiter.dt_s
        np.testing.assert_allclose(np.diff(all_positions, axis=0), moved, atol=SLACK)


@settings(max_examples=25, deadline=None)
@given(limiters(), st.integers(0, 2**32 - 1))
def test_a_resting_target_is_reached_without_overshoot(limiter, seed):
    rng = np.random.default_rng(seed)
    start, target = rng.uniform(limiter.lower, limiter.upper, (2, len(limiter.joints)))
    position, velocity = start, np.zeros_like(start)
    low, high = np.minimum(start, target) - SLACK, np.maximum(start, target) + SLACK
    way = np.abs(target - start)
    ramp_s = limiter.velocity / limiter.acceleration
    needed_s = np.max(way / limiter.velocity + 2.0 * ramp_s) + 5 * limiter.dt_s
    for _ in range(int(needed_s / limiter.dt_s) + 1):
        position, velocity, limited, *_ = limiter.limit(target, position, velocity)
        assert (position >= low).all()
        assert (position <= high).all()
    np.testing.assert_allclose(position, target, atol=1e-6)
    np.testing.assert_allclose(velocity, 0.0, atol=1e-4)
    assert limited == ()


@settings(max_examples=40, deadline=None)
@given(limiters(), st.integers(0, 2**32 - 1))
def test_a_start_out_of_range_only_moves_back_inside(limiter, seed):
    rng = np.random.default_rng(seed)
    sides = rng.choice((-1.0, 1.0), len(limiter.joints))
    edge = np.where(sides > 0, limiter.upper, limiter.lower)
    position = edge + sides * rng.uniform(1e-4, 0.5, len(sides))
    velocity = np.zeros_like(position)
    target = rng.uniform(limiter.lower - 1.0, limiter.upper + 1.0)
    for _ in range(80):
        command = limiter.limit(target, position, velocity)
        outside = np.maximum(command.position - limiter.upper, limiter.lower - command.position)
        before = np.maximum(position - limiter.upper, limiter.lower - position)
        assert (outside <= np.maximum(before, 0.0) + SLACK).all()
        assert (np.abs(command.velocity - velocity) <= limiter._velocity_step + SLACK).all()
        position, velocity = command.position, command.velocity


def test_a_start_out_of_range_comes_back_in():
    limiter = make_limiter()
    position, velocity = np.array([1.3, -1.3]), np.zeros(2)
    for _ in range(60):
        position, velocity, *_ = limiter.limit(np.array([2.0, -2.0]), position, velocity)
    np.testing.assert_allclose(position, [1.0, -1.0], atol=1e-6)


def test_a_velocity_that_cannot_be_braked_still_never_passes_the_limit():
    limiter = make_limiter()
    position, velocity = np.array([0.99, -0.99]), np.array([2.0, -2.0])
    for _ in range(80):
        position, velocity, *_ = limiter.limit(np.array([0.0, 0.0]), position, velocity)
        assert (np.abs(position) <= 1.0).all()
    np.testing.assert_allclose(position, 0.0, atol=1e-6)


def test_a_smooth_curve_within_the_limits_is_followed():
    limiter = make_limiter()
    position, velocity = np.zeros(2), np.full(2, 0.5)
    for tick in range(1, 200):
        t = tick * limiter.dt_s
        target, speed = np.full(2, 0.5 * np.sin(t)), np.full(2, 0.5 * np.cos(t))
        position, velocity, limited, *_ = limiter.limit(target, position, velocity, speed)
        assert limited == ()
        np.testing.assert_allclose(position, target, atol=1e-5)
        np.testing.assert_allclose(velocity, speed, atol=1e-3)


def test_a_reachable_target_is_held_exactly():
    limiter = make_limiter()
    position, velocity = np.zeros(2), np.zeros(2)
    target = np.array([0.001, -0.001])
    for _ in range(3):
        position, velocity, limited, *_ = limiter.limit(target, position, velocity)
    np.testing.assert_allclose(position, target, atol=1e-12)
    np.testing.assert_allclose(velocity, 0.0, atol=1e-12)
    assert limited == ()


@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
def test_a_gentle_chunk_is_executed_as_it_is(interpolation):
    limiter = make_limiter()
    actions = 0.5 * np.sin(np.arange(1, 17) * 0.1)[:, None] * (1.0, -1.0)
    chunk = ActionChunk(
        actions=actions,
        policy_actions=actions.astype(np.float32),
        joints=limiter.joints,
        dt_s=0.1,
        stamp_ns=0,
        checkpoint_id="0123456789ab",
        instruction="",
    )
    sampler = ChunkSampler(limiter.joints, max_age_s=2.0, interpolation=interpolation)
    sampler.add(chunk, now_ns=0, start=np.zeros(2))
    position, velocity = np.zeros(2), np.zeros(2)
    for tick in range(1, 100):
        target, target_velocity = sampler.sample(tick * 20_000_000)
        command = limiter.limit(target, position, velocity, target_velocity)
        position, velocity, limited = command[:3]
        if 10 < tick < 75:
            assert limited == ()
            np.testing.assert_allclose(position, target, atol=2e-3)
    np.testing.assert_allclose(position, actions[-1], atol=1e-9)


def test_limited_joints_are_named():
    command = make_limiter().limit(np.array([0.0, 0.9]), np.zeros(2), np.zeros(2))
    assert command.limited_joints == ("joint_1",)


def test_a_target_out_of_range_is_named_even_at_the_limit():
    command = make_limiter().limit(np.array([1.1, 1.0]), np.ones(2), np.zeros(2))
    assert command.limited_joints == ("joint_0",)
    np.testing.assert_array_equal(command.position, [1.0, 1.0])


def test_a_stop_from_rest_holds_the_position():
    positions, velocities = make_limiter().stop_trajectory(np.array([0.1, 0.2]), np.zeros(2))
    np.testing.assert_array_equal(positions, [[0.1, 0.2]])
    np.testing.assert_array_equal(velocities, [[0.0, 0.0]])


def test_a_stop_takes_the_least_number_of_ticks():
    limiter = make_limiter()  # 0.16 rad/s a tick
    _, velocities = limiter.stop_trajectory(np.zeros(2), np.array([0.40, -0.16]))
    np.testing.assert_allclose(velocities, [[0.24, 0.0], [0.08, 0.0], [0.0, 0.0]], atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(4))
def test_a_value_that_is_not_finite_stops_the_arm(bad, place):
    values = [np.zeros(2) for _ in range(4)]
    values[place][1] = bad
    with pytest.raises(SafetyError, match=r"must be finite, got joint_1 = -?(nan|inf)"):
        make_limiter().limit(*values)


def test_a_stop_of_a_value_that_is_not_finite_is_refused():
    with pytest.raises(SafetyError, match="velocity must be finite"):
        make_limiter().stop_trajectory(np.zeros(2), np.array([np.nan, 0.0]))


def test_a_target_for_other_joints_is_refused():
    with pytest.raises(SafetyError, match=r"target must be \[2\].*joint_0, joint_1, got \[3\]"):
        make_limiter().limit(np.zeros(3), np.zeros(2), np.zeros(2))


@pytest.mark.parametrize("dt_s", [0.0, -0.1, float("nan")])
def test_a_tick_must_take_time(dt_s):
    with pytest.raises(ConfigError, match="dt_s must be positive"):
        make_limiter(dt_s=dt_s)


def test_a_limiter_needs_a_joint():
    with pytest.raises(ConfigError, match="at least one joint"):
        CommandLimiter({}, 0.02)


def test_the_limiter_has_the_order_of_the_contract():
    contract = load_contract("sim")
    limiter = CommandLimiter(contract.action_limits, contract.command.dt_s)
    assert limiter.joints == contract.action.joints
    assert limiter.upper[-1] == contract.limits["gripper_joint"].upper
