# SPDX-License-Identifier: MIT
"""The demonstrator's action for every step of a chunk."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vla_core.evaluation.replay.demonstration import Demonstration
from vla_core.types import ActionChunk

DT_NS = 100_000_000
START_NS = 1_700_000_000_000_000_000


def make_chunk(stamp_ns, num_steps=4):
    return ActionChunk(
        actions=np.zeros((num_steps, 1)),
        policy_actions=np.zeros((num_steps, 1), np.float32),
        joints=("elbow",),
        dt_s=DT_NS * 1e-9,
        stamp_ns=stamp_ns,
        checkpoint_id="",
        instruction="",
    )


def make_demonstration(observed_ns, *, is_absolute=True):
    demonstration = Demonstration(DT_NS * 1e-9, 4, is_absolute=is_absolute)
    for at_ns in observed_ns:
        demonstration.put(at_ns, np.array([(at_ns + DT_NS - START_NS) / DT_NS]))
    return demonstration


@given(st.lists(st.integers(-30_000_000, 30_000_000), min_size=8, max_size=8))
@example([0, 0, 0, 0, -30_000_000, 30_000_000, 0, 0])
def test_targets_that_move_evenly_are_met_exactly_whatever_the_camera_does(jitter_ns):
    observed = [START_NS + k * DT_NS + each for k, each in enumerate(jitter_ns)]
    demonstration = make_demonstration(observed)
    chunk = make_chunk(observed[1])
    expected = (chunk.stamp_ns - START_NS) / DT_NS + np.arange(1.0, 5.0)
    np.testing.assert_allclose(demonstration.actions_for(chunk)[:, 0], expected, atol=1e-6)


def test_steps_after_the_end_are_unknown():
    observed = [START_NS + k * DT_NS for k in range(3)]
    demonstration = make_demonstration(observed)
    chunk = make_chunk(observed[1])
    assert not demonstration.covers(chunk)
    found = demonstration.actions_for(chunk)[:, 0]
    np.testing.assert_allclose(found, [2.0, 3.0, np.nan, np.nan])


def test_a_hole_is_not_interpolated_over():
    observed = [START_NS + k * DT_NS for k in (0, 1, 4, 5)]
    found = make_demonstration(observed).actions_for(make_chunk(START_NS))[:, 0]
    np.testing.assert_allclose(found, [1.0, 2.0, np.nan, np.nan])


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(-30_000_000, 30_000_000)), min_size=10, max_size=10
    )
)
def test_once_a_chunk_is_covered_nothing_later_changes_what_it_is_compared_with(ticks):
    demonstration = make_demonstration([])
    chunk = make_chunk(START_NS)
    covered = None
    for step, (is_known, jitter_ns) in enumerate(ticks):
        observed_ns = START_NS + step * DT_NS + jitter_ns
        demonstration.put(observed_ns, np.array([step + 1.0]) if is_known else None)
        if covered is None and demonstration.covers(chunk):
            covered = demonstration.actions_for(chunk)
    np.testing.assert_array_equal(demonstration.actions_for(chunk), covered)


@pytest.mark.parametrize("is_absolute", [True, False])
def test_changes_are_taken_from_the_nearest_step(is_absolute):
    observed = [START_NS + k * DT_NS for k in range(6)]
    demonstration = make_demonstration(observed, is_absolute=is_absolute)
    found = demonstration.actions_for(make_chunk(START_NS + DT_NS // 4))[:, 0]
    expected = np.arange(1.0, 5.0) + (0.25 if is_absolute else 0.0)
    np.testing.assert_allclose(found, expected)


def test_another_stretch_knows_nothing_of_the_one_before():
    demonstration = make_demonstration([START_NS, START_NS + DT_NS])
    demonstration.clear()
    assert np.isnan(demonstration.actions_for(make_chunk(START_NS))).all()
