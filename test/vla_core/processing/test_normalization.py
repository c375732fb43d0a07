# SPDX-License-Identifier: MIT
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from vla_core.errors import ConfigError, ShapeError
from vla_core.processing.normalization import NORMALIZATION_MODES, Normalizer, Statistics

modes = pytest.mark.parametrize("mode", NORMALIZATION_MODES)

recordings = st_numpy.arrays(
    np.float64, st.tuples(st.integers(1, 30), st.just(3)), elements=st.floats(-1e3, 1e3, width=32)
)


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(3.0, (0.1, 1.0, 10.0), (500, 3))


@settings(max_examples=100, deadline=None)
@given(recordings, st.sampled_from(NORMALIZATION_MODES))
def test_moving_dimensions_come_back_and_constant_ones_become_their_constant(recorded, mode):
    normalizer = Normalizer(mode, Statistics.from_array(recorded))
    back = normalizer.unnormalize(normalizer.normalize(recorded))
    moving = ~normalizer.is_constant
    np.testing.assert_allclose(back[:, moving], recorded[:, moving], rtol=1e-6, atol=1e-6)
    constant = normalizer.unnormalize(np.zeros(3))[normalizer.is_constant]
    assert (back[:, ~moving] == constant).all()


@settings(max_examples=100, deadline=None)
@given(recordings)
def test_min_max_keeps_the_recorded_range_in_minus_one_to_one(recorded):
    normalized = Normalizer("min_max", Statistics.from_array(recorded)).normalize(recorded)
    assert (np.abs(normalized) <= 1.0 + 1e-6).all()


def test_min_max_maps_the_extremes_to_minus_one_and_one(values):
    normalized = Normalizer("min_max", Statistics.from_array(values)).normalize(values)
    np.testing.assert_allclose(normalized.min(axis=0), -1.0)
    np.testing.assert_allclose(normalized.max(axis=0), 1.0)


def test_quantile_maps_the_quantiles_to_minus_one_and_one(values):
    normalized = Normalizer("quantile", Statistics.from_array(values)).normalize(values)
    np.testing.assert_allclose(np.quantile(normalized, 0.01, axis=0), -1.0)
    np.testing.assert_allclose(np.quantile(normalized, 0.99, axis=0), 1.0)


def test_quantile_does_not_clip_outliers(values):
    values[0] = 1000.0
    normalizer = Normalizer("quantile", Statistics.from_array(values))
    normalized = normalizer.normalize(values)
    assert (normalized[0] > 10.0).all()
    np.testing.assert_allclose(normalizer.unnormalize(normalized)[0], 1000.0)


def test_mean_std_gives_mean_zero_and_deviation_one(values):
    normalized = Normalizer("mean_std", Statistics.from_array(values)).normalize(values)
    np.testing.assert_allclose(normalized.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(normalized.std(axis=0), 1.0)


@modes
def test_a_dimension_that_hardly_moves_maps_to_zero_and_back_to_its_constant(mode):
    recorded = np.column_stack((np.full(50, 0.7), 0.7 + np.linspace(0.0, 5e-5, 50)))
    normalizer = Normalizer(mode, Statistics.from_array(recorded))
    assert normalizer.is_constant.all()
    np.testing.assert_array_equal(normalizer.normalize(recorded + 10.0), 0.0)
    np.testing.assert_allclose(normalizer.unnormalize(np.full(2, 5.0)), 0.7, atol=5e-5)


@modes
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_and_numpy_agree_in_both_directions(values, mode, dtype):
    normalizer = Normalizer(mode, Statistics.from_array(values))
    array = values.astype(dtype)
    tensor = torch.from_numpy(array)
    for function in (normalizer.normalize, normalizer.unnormalize):
        result, expected = function(tensor), function(array)
        assert (result.dtype, expected.dtype) == (tensor.dtype, array.dtype)
        np.testing.assert_array_equal(result.numpy(), expected)


@modes
def test_leading_dimensions_do_not_matter(values, mode):
    normalizer = Normalizer(mode, Statistics.from_array(values))
    chunks = values.reshape(5, 4, 25, 3)
    np.testing.assert_array_equal(
        normalizer.normalize(chunks).reshape(-1, 3), normalizer.normalize(values)
    )


@modes
def test_gradients_pass_through(values, mode):
    normalizer = Normalizer(mode, Statistics.from_array(values))
    actions = torch.zeros(2, 3, requires_grad=True)
    normalizer.unnormalize(actions).sum().backward()
    assert (actions.grad > 0.0).all()


def test_statistics_round_trip_through_json_exactly(values):
    statistics = Statistics.from_array(values)
    back = Statistics.from_dict(json.loads(json.dumps(statistics.to_dict())))
    assert back.to_dict() == statistics.to_dict()


def test_statistics_are_ordered(values):
    statistics = Statistics.from_array(values)
    ordered = [statistics.min, statistics.q01, statistics.mean, statistics.q99, statistics.max]
    assert (np.diff(ordered, axis=0) > 0.0).all()
    assert statistics.count == 500


@modes
def test_missing_statistics_are_refused(mode):
    with pytest.raises(ConfigError, match=r"needs the statistics.*got None.*from_array"):
        Normalizer(mode, None)


def test_an_unknown_mode_lists_the_modes(values):
    with pytest.raises(ConfigError, match="'minmax' is unknown; available: 'mean_std', 'min_max'"):
        Normalizer("minmax", Statistics.from_array(values))


@pytest.mark.parametrize("shape", [(0, 3), (3,), (2, 2, 3)])
def test_recorded_values_must_be_rows(shape):
    with pytest.raises(ShapeError, match=r"must be \[T, D\] with T > 0"):
        Statistics.from_array(np.zeros(shape))


def test_a_recorded_value_that_is_not_finite_is_named(values):
    values[7, 1] = np.nan
    with pytest.raises(ShapeError, match="got nan in row 7, column 1"):
        Statistics.from_array(values)


def test_incomplete_statistics_are_refused(values):
    data = Statistics.from_array(values).to_dict()
    del data["q99"]
    with pytest.raises(ConfigError, match="statistics lacks 'q99'"):
        Statistics.from_dict(data)


def test_statistics_of_different_length_are_refused(values):
    data = Statistics.from_array(values).to_dict()
    data["std"] = [1.0]
    with pytest.raises(ShapeError, match=r"'std' must be \[3\] like 'mean', got \[1\]"):
        Statistics.from_dict(data)


@modes
def test_values_of_another_dimension_are_refused(values, mode):
    normalizer = Normalizer(mode, Statistics.from_array(values))
    with pytest.raises(
        ShapeError, match=r"must be \[\.\.\., 3\] like the statistics, got \[2, 4\]"
    ):
        normalizer.normalize(np.zeros((2, 4)))


@pytest.mark.parametrize("whole", [np.zeros(3, np.int64), torch.zeros(3, dtype=torch.int64)])
def test_whole_numbers_are_refused(values, whole):
    with pytest.raises(ShapeError, match=r"must be floating point, got .*int64"):
        Normalizer("min_max", Statistics.from_array(values)).normalize(whole)
