# SPDX-License-Identifier: MIT
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_core.errors import ChunkError, ConfigError
from vla_core.inference.action_chunks import ChunkSampler
from vla_core.types import ActionChunk

JOINTS = ("joint_1", "joint_2")
DT_S = 0.1
MS = 1_000_000


def make_chunk(actions=None, stamp_ns=0, **overrides):
    if actions is None:
        actions = np.arange(1.0, 17.0)[:, None] * (0.01, -0.02)
    actions = np.asarray(actions, dtype=np.float64)
    fields = {
        "actions": actions,
        "policy_actions": actions.astype(np.float32),
        "joints": JOINTS,
        "dt_s": DT_S,
        "stamp_ns": stamp_ns,
        "checkpoint_id": "0123456789ab",
        "instruction": "pick up the red block",
    }
    return ActionChunk(**{**fields, **overrides})


def make_sampler(chunk=None, now_ns=0, epoch=0, **overrides):
    sampler = ChunkSampler(JOINTS, **{"max_age_s": 0.6, **overrides})
    sampler.add(chunk or make_chunk(), now_ns=now_ns, epoch=epoch, start=np.zeros(2))
    return sampler


def random_actions(seed, num_steps=16):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (num_steps, 2))


@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
def test_every_target_is_reached_at_its_time(interpolation):
    actions = random_actions(0)
    sampler = make_sampler(make_chunk(actions, stamp_ns=7), interpolation=interpolation)
    for k, target in enumerate(actions):
        position, _ = sampler.sample(7 + (k + 1) * 100 * MS)
        np.testing.assert_allclose(position, target, atol=1e-9)


@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
def test_the_curve_starts_where_the_arm_is_at_the_observation(interpolation):
    sampler = ChunkSampler(JOINTS, max_age_s=0.6, interpolation=interpolation)
    start = np.array([0.3, -0.4])
    sampler.add(make_chunk(stamp_ns=50 * MS), now_ns=60 * MS, start=start)
    for t_ns in (0, 50 * MS):
        np.testing.assert_allclose(sampler.sample(t_ns)[0], start, atol=1e-12)


@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
def test_a_straight_motion_has_its_velocity(interpolation):
    sampler = make_sampler(interpolation=interpolation)
    position, velocity = sampler.sample(430 * MS)
    np.testing.assert_allclose(position, [0.043, -0.086], atol=1e-9)
    np.testing.assert_allclose(velocity, [0.1, -0.2], atol=1e-9)


@pytest.mark.parametrize("t_ns", [1600 * MS, 5000 * MS])
def test_past_the_end_the_last_target_is_held_at_rest(t_ns):
    position, velocity = make_sampler().sample(t_ns)
    np.testing.assert_array_equal(position, make_chunk().actions[-1])
    np.testing.assert_array_equal(velocity, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 1_599), st.sampled_from(("cubic", "linear")))
def test_no_sample_leaves_the_range_of_its_neighbouring_targets(seed, t_ms, interpolation):
    actions = random_actions(seed)
    sampler = make_sampler(make_chunk(actions), interpolation=interpolation)
    knots = np.vstack((np.zeros(2), actions))
    pair = knots[t_ms // 100 : t_ms // 100 + 2]
    position, _ = sampler.sample(t_ms * MS)
    assert (position >= pair.min(axis=0) - 1e-9).all()
    assert (position <= pair.max(axis=0) + 1e-9).all()


def replaced(seed, blend_s=0.1):
    """Return a sampler that switches from one random chunk to another at 250 ms."""
    sampler = make_sampler(make_chunk(random_actions(seed)), blend_s=blend_s)
    sampler.add(make_chunk(random_actions(seed + 1), stamp_ns=130 * MS), now_ns=250 * MS)
    return sampler


def assert_smooth(sampler, from_ns, to_ns):
    """Check that velocity is the derivative of position, and continuous, along the way."""
    step_ns = 10_000
    for t_ns in range(from_ns, to_ns, 3 * MS):
        before, velocity = sampler.sample(t_ns)
        after, next_velocity = sampler.sample(t_ns + step_ns)
        mean = (velocity + next_velocity) / 2.0
        np.testing.assert_allclose((after - before) / (step_ns * 1e-9), mean, atol=0.02)
        np.testing.assert_allclose(next_velocity, velocity, atol=0.2)


@pytest.mark.parametrize("seed", range(3))
def test_position_and_velocity_are_continuous_through_a_switch(seed):
    assert_smooth(replaced(seed), 0, 1700 * MS)


def test_a_chunk_that_arrives_during_a_fade_is_faded_in_smoothly_too():
    sampler = replaced(0)
    now_ns = 290 * MS
    before = sampler.sample(now_ns)
    sampler.add(make_chunk(random_actions(5), stamp_ns=200 * MS), now_ns=now_ns)
    np.testing.assert_allclose(sampler.sample(now_ns), before, atol=1e-12)
    assert_smooth(sampler, 0, 1700 * MS)


def test_after_the_fade_only_the_new_chunk_counts():
    sampler = replaced(0)
    alone = make_sampler(make_chunk(random_actions(1), stamp_ns=130 * MS), now_ns=130 * MS)
    for t_ns in (350 * MS, 700 * MS):
        np.testing.assert_allclose(sampler.sample(t_ns), alone.sample(t_ns), atol=1e-12)


def test_halfway_through_the_fade_both_chunks_count_the_same():
    sampler = replaced(0)
    old = make_sampler(make_chunk(random_actions(0))).sample(300 * MS)[0]
    chunk = make_chunk(random_actions(1), stamp_ns=130 * MS)
    new = make_sampler(chunk, now_ns=130 * MS).sample(300 * MS)[0]
    np.testing.assert_allclose(sampler.sample(300 * MS)[0], (old + new) / 2.0, atol=1e-12)


def test_without_a_fade_the_new_chunk_counts_at_once():
    sampler = replaced(0, blend_s=0.0)
    alone = make_sampler(make_chunk(random_actions(1), stamp_ns=130 * MS), now_ns=130 * MS)
    np.testing.assert_allclose(sampler.sample(250 * MS), alone.sample(250 * MS), atol=1e-12)


@pytest.mark.parametrize("blending", ["blend", "ensemble"])
def test_old_curves_are_forgotten(blending):
    sampler = make_sampler(blending=blending)
    for i in range(1, 100):
        sampler.add(make_chunk(stamp_ns=i * 40 * MS), now_ns=(i * 40 + 20) * MS)
    assert len(sampler._members) <= {"blend": 5, "ensemble": 20}[blending]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("m", [-0.5, 0.01, 1.0])
def test_ensemble_is_continuous_while_chunks_come_and_go(seed, m):
    sampler = make_sampler(
        make_chunk(random_actions(seed, 6)), blending="ensemble", ensemble_m=m, max_age_s=1.0
    )
    for i, num_steps in enumerate((4, 9, 5, 7)):
        chunk = make_chunk(random_actions(seed + i, num_steps), stamp_ns=(i + 1) * 90 * MS)
        sampler.add(chunk, now_ns=((i + 1) * 90 + 60) * MS)
    assert_smooth(sampler, 430 * MS, 1700 * MS)


def test_ensemble_is_the_weighted_mean_of_all_chunks_oldest_first():
    chunks = [make_chunk(random_actions(i), stamp_ns=i * 100 * MS) for i in range(3)]
    sampler = make_sampler(chunks[0], blending="ensemble", ensemble_m=0.5, max_age_s=2.0)
    alone = []
    for i, chunk in enumerate(chunks):
        if i > 0:
            sampler.add(chunk, now_ns=i * 100 * MS)
        # By the second target it no longer matters where a chunk started.
        alone.append(make_sampler(chunk, now_ns=i * 100 * MS).sample(700 * MS)[0])
    weights = np.exp(-0.5 * np.arange(3))
    expected = weights @ np.array(alone) / weights.sum()
    np.testing.assert_allclose(sampler.sample(700 * MS)[0], expected, atol=1e-12)


def test_chunk_that_has_ended_no_longer_counts_in_an_ensemble():
    sampler = make_sampler(make_chunk(random_actions(0, 3)), blending="ensemble", max_age_s=2.0)
    chunk = make_chunk(random_actions(1), stamp_ns=100 * MS)
    sampler.add(chunk, now_ns=150 * MS)
    alone = make_sampler(chunk, now_ns=150 * MS)
    np.testing.assert_allclose(sampler.sample(700 * MS), alone.sample(700 * MS), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from((0.0, 0.01, 0.1, 0.9)),
    st.integers(1, 12),
    st.sampled_from((0.5, 3.0)),
)
def test_time_runs_ever_slower_towards_the_end_of_a_chunk(seed, slow_s, num_steps, max_age_s):
    actions = random_actions(seed, num_steps)
    sampler = make_sampler(make_chunk(actions), slow_s=slow_s, max_age_s=max_age_s)
    plain = make_sampler(make_chunk(actions), max_age_s=max_age_s)
    length_s = min(num_steps * DT_S, max_age_s)
    slowed_s = min(slow_s, 0.5 * length_s)
    paces = [sampler.pace(round(t * 1e9)) for t in np.linspace(0.0, length_s + slowed_s, 30)]
    assert paces[0] == 1.0
    assert (np.diff(paces) <= 1e-12).all()
    before_ns = round((length_s - slowed_s) * 1e9) - 1
    np.testing.assert_allclose(sampler.sample(before_ns), plain.sample(before_ns), atol=1e-6)
    end, speed = sampler.sample(round((length_s + slowed_s) * 1e9) + 1)
    np.testing.assert_allclose(end, plain.sample(round(length_s * 1e9))[0], atol=1e-5)
    if slowed_s > 0.0:
        np.testing.assert_allclose(speed, 0.0, atol=1e-5)
        assert sampler.pace(round(length_s * 1e9)) == pytest.approx(0.5, abs=1e-6)


def test_slowing_down_is_continuous():
    assert_smooth(make_sampler(make_chunk(random_actions(3)), slow_s=0.4), 0, 1900 * MS)


def test_a_new_chunk_is_followed_at_full_pace_again():
    sampler = make_sampler(slow_s=0.2)
    assert sampler.pace(550 * MS) < 1.0
    sampler.add(make_chunk(stamp_ns=500 * MS), now_ns=550 * MS)
    assert sampler.pace(560 * MS) == 1.0
    assert_smooth(sampler, 300 * MS, 900 * MS)


def test_targets_are_followed_instead_of_the_actions_they_were_made_from():
    sampler = ChunkSampler(JOINTS, max_age_s=2.0)
    chunk = make_chunk(np.zeros((4, 2)), kind="joint_delta")
    sampler.add(chunk, now_ns=0, start=np.zeros(2), targets=np.full((4, 2), 0.5))
    np.testing.assert_allclose(sampler.sample(100 * MS)[0], 0.5)
    with pytest.raises(ChunkError, match=r"targets must be \[4, 2\], got \[3, 2\]"):
        sampler.add(chunk, now_ns=0, targets=np.zeros((3, 2)))


def test_switch_jump_is_the_largest_distance_between_the_curves():
    sampler = make_sampler(make_chunk(np.zeros((16, 2))))
    assert sampler.switch_jump == 0.0
    actions = np.full((16, 2), (0.1, -0.3))
    sampler.add(make_chunk(actions, stamp_ns=0), now_ns=200 * MS)
    assert sampler.switch_jump == pytest.approx(0.3)


def test_a_chunk_continues_from_what_was_commanded_at_its_stamp():
    sampler = make_sampler()
    sampler.add(make_chunk(np.zeros((16, 2)), stamp_ns=100 * MS), now_ns=100 * MS)
    np.testing.assert_allclose(sampler.sample(100 * MS)[0], [0.01, -0.02], atol=1e-12)


def test_a_first_chunk_needs_a_start():
    sampler = ChunkSampler(JOINTS, max_age_s=0.6)
    with pytest.raises(ChunkError, match="start must be given for a first chunk"):
        sampler.add(make_chunk(), now_ns=0)


@pytest.mark.parametrize("start", [[0.0], [0.0, np.nan]])
def test_a_bad_start_is_refused(start):
    with pytest.raises(ChunkError, match="start must be 2 finite positions"):
        ChunkSampler(JOINTS, max_age_s=0.6).add(make_chunk(), now_ns=0, start=np.array(start))


def test_age_counts_from_the_observation():
    sampler = make_sampler(make_chunk(stamp_ns=100 * MS), now_ns=300 * MS)
    assert sampler.age_s(400 * MS) == pytest.approx(0.3)
    assert not sampler.expired(700 * MS)
    assert sampler.expired(701 * MS)


def test_without_a_chunk_there_is_nothing_to_sample():
    sampler = ChunkSampler(JOINTS, max_age_s=0.6)
    assert sampler.expired(0)
    with pytest.raises(ChunkError, match="no chunk to sample"):
        sampler.sample(0)


def chunk_with(value):
    actions = np.zeros((16, 2))
    actions[3, 1] = value
    return make_chunk(actions, stamp_ns=100 * MS)


@pytest.mark.parametrize(
    ("chunk", "epoch", "message"),
    [
        (make_chunk(stamp_ns=99 * MS), 1, r"out of order: 0\.001 s older"),
        (make_chunk(stamp_ns=100 * MS), 0, r"epoch must be at least 1, got a chunk of epoch 0"),
        (chunk_with(np.nan), 1, r"finite, got nan for joint_2 in step 3"),
        (chunk_with(np.inf), 1, r"finite, got inf for joint_2 in step 3"),
        (make_chunk(stamp_ns=100 * MS, joints=JOINTS[::-1]), 1, r"joint_1, joint_2 in this order"),
        (
            make_chunk(stamp_ns=100 * MS, kind="joint_delta"),
            1,
            r"'joint_delta' must be given as joint targets",
        ),
        (make_chunk(stamp_ns=-500 * MS), 1, r"of the last 0\.6 s.*is 0\.700 s old"),
        (make_chunk(stamp_ns=900 * MS), 1, r"0\.700 s in the future; synchronise the clocks"),
    ],
)
def test_a_chunk_that_must_not_be_executed_is_refused_and_the_held_one_stays(
    chunk, epoch, message
):
    held = make_chunk(stamp_ns=100 * MS)
    sampler = make_sampler(held, now_ns=150 * MS, epoch=1)
    with pytest.raises(ChunkError, match=message):
        sampler.add(chunk, now_ns=200 * MS, epoch=epoch, start=np.zeros(2))
    assert sampler.chunk is held
    assert sampler.epoch == 1


def test_a_chunk_of_a_later_epoch_is_taken():
    sampler = make_sampler(epoch=1)
    sampler.add(make_chunk(stamp_ns=50 * MS), now_ns=90 * MS, epoch=2)
    assert sampler.epoch == 2


def test_a_restarted_policy_may_count_its_epochs_from_zero():
    sampler = make_sampler(epoch=5)
    chunk = make_chunk(stamp_ns=1000 * MS)
    sampler.add(chunk, now_ns=1100 * MS, epoch=0, start=np.zeros(2))
    assert sampler.chunk is chunk
    assert sampler.switch_jump == 0.0


def test_a_cleared_sampler_is_as_new():
    sampler = make_sampler(epoch=5)
    sampler.clear()
    assert sampler.expired(0)
    assert (sampler.chunk, sampler.epoch) == (None, 0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"interpolation": "spline"}, "'spline' is unknown; available: 'cubic', 'linear'"),
        ({"blending": "mean"}, "'mean' is unknown; available: 'blend', 'ensemble'"),
        ({"ensemble_m": float("nan")}, "ensemble_m must be finite"),
        ({"blend_s": -0.1}, "blend_s must not be negative"),
        ({"slow_s": -0.1}, "slow_s must not be negative"),
        ({"max_age_s": 0.0}, "max_age_s must be positive"),
    ],
)
def test_a_wrong_setting_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_sampler(**overrides)


def test_sampling_and_limiting_load_no_torch():
    code = (
        "import sys, vla_core.inference.action_chunks, vla_core.inference.safety;"
        "import vla_core.processing.messages, vla_core.processing.normalization;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
