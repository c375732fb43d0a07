# SPDX-License-Identifier: MIT
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.errors import ChunkError, ConfigError
from vla_core.inference.temporal_ensembling import TemporalEnsemble


def chunks(count, size=4, width=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, width))


def test_first_action_is_that_of_the_only_chunk():
    chunk = chunks(1)[0]
    assert TemporalEnsemble(4).update(chunk) == pytest.approx(chunk[0])


def test_weights_fall_exponentially_from_the_oldest_prediction():
    first, second = chunks(2)
    ensemble = TemporalEnsemble(4, m=0.5)
    ensemble.update(first)
    weight = np.exp(-0.5)
    expected = (first[1] + weight * second[0]) / (1.0 + weight)
    assert ensemble.update(second) == pytest.approx(expected)


@given(m=st.floats(-1.0, 1.0), seed=st.integers(0, 99))
def test_action_is_the_weighted_mean_of_all_predictions_of_its_step(m, seed):
    size, predicted = 4, chunks(7, seed=seed)
    ensemble = TemporalEnsemble(size, m)
    for step, chunk in enumerate(predicted):
        starts = range(max(0, step - size + 1), step + 1)
        weights = [np.exp(-m * age) for age in range(len(starts))]
        expected = np.average([predicted[s][step - s] for s in starts], axis=0, weights=weights)
        assert ensemble.update(chunk) == pytest.approx(expected)


@given(m=st.floats(-1.0, 1.0))
def test_chunks_that_agree_are_followed(m):
    trajectory = np.arange(10.0)[:, None]
    ensemble = TemporalEnsemble(4, m)
    for step in range(6):
        assert ensemble.update(trajectory[step : step + 4]) == pytest.approx(trajectory[step])


def test_zero_decay_is_the_plain_mean():
    ensemble = TemporalEnsemble(3, m=0.0)
    for value in (0.0, 3.0):
        ensemble.update(np.full((3, 1), value))
    assert ensemble.update(np.full((3, 1), 6.0)) == pytest.approx([3.0])


@pytest.mark.parametrize(("m", "oldest_counts_more"), [(1.0, True), (-1.0, False)])
def test_sign_of_the_decay_says_which_predictions_count_more(m, oldest_counts_more):
    ensemble = TemporalEnsemble(2, m)
    ensemble.update(np.zeros((2, 1)))
    assert (ensemble.update(np.ones((2, 1))) < 0.5).all() == oldest_counts_more


def test_steps_without_a_new_chunk_use_those_that_are_there():
    chunk = chunks(1)[0]
    ensemble = TemporalEnsemble(4)
    ensemble.add(chunk)
    assert np.stack([ensemble.advance() for _ in range(4)]) == pytest.approx(chunk)


def test_step_that_no_chunk_reaches_is_refused():
    ensemble = TemporalEnsemble(1)
    ensemble.update(np.zeros((1, 2)))
    with pytest.raises(ChunkError, match="no chunk reaches step 1; add one at least every 1 st"):
        ensemble.advance()


def test_reset_forgets_what_was_predicted():
    ensemble = TemporalEnsemble(4)
    ensemble.update(chunks(1)[0])
    ensemble.reset()
    chunk = chunks(1, seed=1)[0]
    assert ensemble.step == 0
    assert ensemble.update(chunk) == pytest.approx(chunk[0])


def test_later_changes_to_a_given_chunk_have_no_effect():
    chunk = np.zeros((4, 2))
    ensemble = TemporalEnsemble(4)
    ensemble.add(chunk)
    chunk += 1.0
    assert ensemble.advance() == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize("chunk", [np.zeros((3, 2)), np.zeros(4), np.zeros((4, 3))])
def test_chunk_of_another_shape_is_refused(chunk):
    ensemble = TemporalEnsemble(4)
    ensemble.add(np.zeros((4, 2)))
    with pytest.raises(ChunkError, match=r"chunk must be \[4, 2\]"):
        ensemble.add(chunk)


def test_chunk_that_is_not_finite_is_refused():
    with pytest.raises(ChunkError, match="not finite"):
        TemporalEnsemble(2).add(np.array([[np.nan], [0.0]]))


@pytest.mark.parametrize("settings", [{"chunk_size": 0}, {"chunk_size": 2, "m": np.nan}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match="must be"):
        TemporalEnsemble(**settings)
