# SPDX-License-Identifier: MIT
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.errors import ConfigError
from vla_core.inference.chunk_curve import ChunkCurve
from vla_core.inference.real_time_chunking import RealTimeChunking
from vla_core.types import ActionChunk

NUM_STEPS, DT_S, START_NS = 8, 0.1, 1_000_000_000_000
SECOND = 1_000_000_000


def make_chunk(actions=None, stamp_ns=START_NS, kind="joint_position"):
    if actions is None:
        actions = np.random.default_rng(0).uniform(-1.0, 1.0, (NUM_STEPS, 2))
    actions = np.asarray(actions, dtype=np.float64)
    return ActionChunk(
        actions=10.0 * actions + 3.0,
        policy_actions=actions.astype(np.float32),
        joints=("a", "b"),
        dt_s=DT_S,
        stamp_ns=stamp_ns,
        checkpoint_id="",
        instruction="",
        kind=kind,
    )


def executed(mode="freeze", delay_s=0.25, chunk=None):
    """A chunk that has been executed since `delay_s` after its observation."""
    chunking = RealTimeChunking(mode)
    chunking.put_chunk(chunk or make_chunk(), 1)
    chunking.put_execution(1, START_NS + round(delay_s * SECOND))
    return chunking


def test_as_many_steps_are_committed_as_the_measured_delay_covers():
    for delay_s, expected in ((0.01, 1), (0.1, 1), (0.11, 2), (0.25, 3), (0.5, 5)):
        known = executed(delay_s=delay_s).known_steps(START_NS)
        assert len(known.committed) == expected


def test_steps_are_found_by_time_not_by_index():
    chunk = make_chunk()
    known = executed(chunk=chunk).known_steps(START_NS + 3 * SECOND // 10)
    np.testing.assert_allclose(known.committed, chunk.policy_actions[3:6], atol=1e-6)


@given(shift_s=st.floats(0.0, 0.3), delay_s=st.floats(0.01, 0.3))
def test_committed_steps_lie_on_the_curve_that_the_arm_follows(shift_s, delay_s):
    chunk = make_chunk()
    stamp_ns = START_NS + round(shift_s * SECOND)
    known = executed(chunk=chunk, delay_s=delay_s).known_steps(stamp_ns)
    curve = ChunkCurve(chunk.stamp_ns, chunk.dt_s, chunk.actions, chunk.actions[0])
    for step, action in enumerate(known.committed):
        position, _ = curve.sample(stamp_ns + round((step + 1) * DT_S * SECOND))
        np.testing.assert_allclose(10.0 * action + 3.0, position, atol=1e-4)


@pytest.mark.parametrize("kind", ["joint_delta", "end_effector_delta"])
@given(shift=st.floats(0.0, 6.0))
def test_sum_of_resampled_deltas_is_the_motion_of_the_old_chunk(kind, shift):
    chunk = make_chunk(kind=kind)
    stamp_ns = START_NS + round(shift * DT_S * SECOND)
    known = executed(chunk=chunk, delay_s=0.65).known_steps(stamp_ns)
    num = len(known.committed)
    total = np.vstack([np.zeros(2), np.cumsum(chunk.policy_actions, axis=0)])
    at = [np.interp((shift, shift + num), np.arange(NUM_STEPS + 1), total[:, a]) for a in (0, 1)]
    np.testing.assert_allclose(known.committed.sum(0), np.diff(at, axis=1)[:, 0], atol=1e-4)


def test_guidance_has_the_rest_of_the_old_chunk():
    chunk = make_chunk()
    known = executed("guided", 0.2, chunk).known_steps(START_NS + SECOND // 10)
    np.testing.assert_allclose(known.committed, chunk.policy_actions[1:3], atol=1e-6)
    np.testing.assert_allclose(known.overlap, chunk.policy_actions[3:], atol=1e-6)
    assert executed("freeze", 0.2, chunk).known_steps(START_NS).overlap is None


def test_longest_of_the_last_delays_counts():
    chunking = RealTimeChunking("freeze")
    for sequence, delay_s in enumerate((0.9, 0.1, 0.2, 0.3, 0.2, 0.1), start=1):
        stamp_ns = START_NS + sequence * SECOND
        chunking.put_chunk(make_chunk(stamp_ns=stamp_ns), sequence)
        chunking.put_execution(sequence, stamp_ns + round(delay_s * SECOND))
        chunking.put_execution(sequence, stamp_ns + 5 * SECOND)  # goes on being executed
    assert chunking.delay_s == pytest.approx(0.3)


def test_nothing_is_committed_before_anything_was_measured():
    chunking = RealTimeChunking("freeze")
    assert math.isnan(chunking.delay_s)
    chunking.put_chunk(make_chunk(), 1)
    chunking.put_execution(7, START_NS)  # a chunk of an earlier process
    assert chunking.known_steps(START_NS) is None


def test_an_arm_that_follows_no_chunk_leaves_the_next_one_free():
    chunking = executed()
    chunking.put_execution(0, START_NS + SECOND)
    assert chunking.known_steps(START_NS) is None


def test_forgotten_chunks_commit_nothing_but_the_delay_stays_known():
    chunking = executed(delay_s=0.25)
    chunking.forget()
    assert chunking.known_steps(START_NS) is None
    assert chunking.delay_s == pytest.approx(0.25)


def test_a_chunk_never_is_committed_as_a_whole():
    known = executed(delay_s=30.0).known_steps(START_NS)
    assert len(known.committed) == NUM_STEPS - 1


def test_an_old_chunk_that_has_ended_commits_nothing():
    assert executed().known_steps(START_NS + SECOND) is None


def test_clock_that_was_set_back_measures_and_commits_nothing():
    chunking = executed(delay_s=-1.0)
    assert math.isnan(chunking.delay_s)
    assert executed().known_steps(START_NS - SECOND) is None


def test_switched_off_nothing_is_committed():
    assert executed("off").known_steps(START_NS) is None


def test_unknown_mode_names_the_possible_ones():
    with pytest.raises(ConfigError, match="'on' is unknown; available: 'off', 'freeze', 'guided'"):
        RealTimeChunking("on")
