# SPDX-License-Identifier: MIT
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads import ActionBins, DiscreteActionHead, quantile_bounds
from vla_core.models.action_heads.discrete import ActionTokenHead

laws = settings(max_examples=100, deadline=None)
numbers = st.floats(-100, 100, width=32)
widths = st.floats(0.125, 100, width=32)
bin_counts = st.integers(2, 300)
fractions = st.floats(0, 1, width=32)


def make_bins(lower, width, num_bins):
    return ActionBins([(lower, lower + width)], num_bins)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@laws
@given(numbers, widths, bin_counts, fractions)
def test_action_inside_the_bounds_comes_back_within_half_a_bin(lower, width, num_bins, fraction):
    bins = make_bins(lower, width, num_bins)
    action = torch.tensor([lower + fraction * width])
    back = bins.dequantize(bins.quantize(action))
    rounding = 4e-7 * (abs(lower) + width)
    assert (back - action).abs().item() <= width / num_bins / 2 + rounding


@laws
@given(widths, bin_counts, st.floats(-1, 1, width=32))
def test_action_inside_the_bounds_is_not_counted(width, num_bins, fraction):
    bins = ActionBins([(-width, width)], num_bins)
    assert not bins.outside(torch.tensor([fraction * width])).any()


@laws
@given(numbers, widths, bin_counts)
def test_centre_of_a_bin_lies_in_that_bin(lower, width, num_bins):
    bins = make_bins(lower, width, num_bins)
    all_bins = torch.arange(num_bins).unsqueeze(-1)
    assert torch.equal(bins.quantize(bins.dequantize(all_bins)), all_bins)


@laws
@given(widths, bin_counts, st.floats(1.01, 1e6))
def test_action_outside_the_bounds_is_clipped_and_counted(width, num_bins, factor):
    bins = ActionBins([(-width, width)], num_bins)
    actions = torch.tensor([[-factor * width], [factor * width]])
    assert bins.quantize(actions).flatten().tolist() == [0, num_bins - 1]
    assert bins.outside(actions).all()


@laws
@given(numbers, numbers, bin_counts)
def test_larger_action_has_no_smaller_bin(one, two, num_bins):
    bins = ActionBins([(-50.0, 50.0)], num_bins)
    low, high = sorted([one, two])
    assert bins.quantize(torch.tensor([low])) <= bins.quantize(torch.tensor([high]))


def test_bins_have_equal_width_and_their_edges_belong_to_the_upper_one():
    bins = ActionBins([(0.0, 4.0)], num_bins=4)
    edges = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    assert bins.quantize(edges).flatten().tolist() == [0, 1, 2, 3]
    assert bins.quantize(edges - 1e-6).flatten().tolist() == [0, 0, 1, 2]


def test_bounds_themselves_are_the_first_and_the_last_bin():
    bins = ActionBins([(-1.0, 1.0)])
    bounds = torch.tensor([[-1.0], [1.0]])
    assert bins.quantize(bounds).flatten().tolist() == [0, 255]
    assert not bins.outside(bounds).any()


def test_rounding_error_at_a_bound_is_not_counted_as_clipped():
    assert not ActionBins([(-1.0, 1.0)]).outside(torch.tensor([1.0 + 3e-7])).any()


def test_each_dimension_has_its_own_bounds():
    bins = ActionBins([(-1.0, 1.0), (0.0, 10.0)], num_bins=10)
    assert bins.quantize(torch.tensor([0.5, 0.5])).tolist() == [7, 0]


def test_numbers_that_are_none_count_as_outside():
    bins = ActionBins([(-1.0, 1.0)])
    actions = torch.tensor([[math.nan], [math.inf], [-math.inf]])
    assert bins.outside(actions).all()
    assert bins.quantize(actions).flatten().tolist() == [0, 255, 0]


def test_bfloat16_actions_are_binned_as_float32():
    bins = ActionBins([(-1.0, 1.0)])
    actions = torch.linspace(-1, 1, 50).unsqueeze(-1).bfloat16()
    assert torch.equal(bins.quantize(actions), bins.quantize(actions.float()))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([(-1.0, 1.0), (1.0, 1.0)], r"dimension 1 must be a lower and a higher .*\(1.0, 1.0\)"),
        ([(1.0, -1.0)], "dimension 0 must be a lower and a higher finite number"),
        ([(-math.inf, 1.0)], "dimension 0 must be a lower and a higher finite number"),
        ([(1.0,)], "dimension 0 must be a lower and a higher finite number"),
        ([(1000.0, 1000.001)], "too close for 256 bins in float32; widen them"),
    ],
)
def test_impossible_bounds_are_refused(bounds, message):
    with pytest.raises(ConfigError, match=message):
        ActionBins(bounds)


def test_fewer_than_two_bins_are_refused():
    with pytest.raises(ConfigError, match="num_bins must be at least 2, got 1"):
        ActionBins([(-1.0, 1.0)], num_bins=1)


def test_quantile_bounds_leave_out_outliers():
    actions = torch.linspace(-1, 1, 1001).unsqueeze(-1).repeat(1, 2)
    actions[500] = torch.tensor([50.0, -50.0])
    for lower, upper in quantile_bounds(actions):
        assert lower == pytest.approx(-0.98, abs=0.01)
        assert upper == pytest.approx(0.98, abs=0.01)


def test_quantile_bounds_of_a_constant_surround_it():
    ((lower, upper),) = quantile_bounds(torch.full((20, 3, 1), 2.5))
    bins = ActionBins([(lower, upper)])
    assert lower < 2.5 < upper
    assert bins.dequantize(bins.quantize(torch.tensor([2.5]))).item() == pytest.approx(
        2.5, abs=1e-3
    )


def scores_of(head, actions, sharpness=50.0):
    """Return scores that are sure of the given actions."""
    bins = head.bins.quantize(actions).flatten(1)
    return torch.nn.functional.one_hot(bins, head.bins.num_bins).float() * sharpness


@pytest.fixture
def head():
    return ActionTokenHead(action_dim=2, chunk_size=3, bounds=[(-1, 1), (0, 2)], num_bins=16)


@pytest.fixture
def actions():
    return torch.rand(4, 3, 2, generator=generator())


def test_sure_scores_of_the_truth_cost_nothing_and_predict_it(head, actions):
    scores = scores_of(head, actions)
    losses = head.compute_loss(scores, actions)
    assert losses["token_loss"] < 1e-6
    assert losses["token_accuracy"] == 1.0
    assert (head.predict_action(scores) - actions).abs().max() <= 1 / 16 + 1e-6


def test_equal_scores_cost_the_logarithm_of_the_number_of_bins(head, actions):
    losses = head.compute_loss(torch.zeros(4, 6, 16), actions)
    assert losses["loss"].item() == pytest.approx(math.log(16))


def test_clipped_numbers_of_valid_steps_are_counted(head, actions):
    actions[0, 0] = torch.tensor([1.5, -0.5])
    actions[1, 2] = 7.0
    scores = torch.zeros(4, 6, 16)
    assert head.compute_loss(scores, actions)["clipped_actions"] == 4
    is_pad = torch.zeros(4, 3, dtype=torch.bool)
    is_pad[1, 2] = True
    assert head.compute_loss(scores, actions, is_pad)["clipped_actions"] == 2


def test_padded_steps_count_in_no_figure(head, actions):
    scores = torch.rand(4, 6, 16, generator=generator(1))
    is_pad = torch.zeros(4, 3, dtype=torch.bool)
    is_pad[:, 1:] = True
    padded = actions.masked_fill(is_pad[..., None], 9.0)
    expected, changed = (head.compute_loss(scores, a, is_pad) for a in (actions, padded))
    for name, value in expected.items():
        assert torch.equal(value, changed[name]), name


def test_sampling_follows_the_scores(head):
    scores = torch.full((1, 6, 16), -50.0)
    scores[..., 3], scores[..., 5] = math.log(0.25), math.log(0.75)
    drawn = head.predict_action(scores.repeat(2000, 1, 1), generator(), temperature=1.0)
    bins = head.bins.quantize(drawn)
    assert set(bins.unique().tolist()) == {3, 5}
    assert (bins == 5).float().mean().item() == pytest.approx(0.75, abs=0.02)


def test_scores_of_another_shape_are_refused(head):
    with pytest.raises(ShapeError, match=r"\['B', 6, 16\].*got \[4, 6, 17\]"):
        head.predict_action(torch.zeros(4, 6, 17))


def test_as_many_bounds_as_dimensions_are_needed():
    with pytest.raises(ConfigError, match=r"must be 3 pairs \(action_dim\), got 2"):
        ActionTokenHead(action_dim=3, bounds=[(-1, 1)] * 2)


def test_classifier_learns_actions_to_within_a_bin():
    torch.manual_seed(0)
    head = DiscreteActionHead(5, action_dim=2, chunk_size=3, hidden_dim=32, num_bins=32)
    features, actions = torch.randn(8, 5), torch.rand(8, 3, 2) * 2 - 1
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        head.compute_loss(features, actions)["loss"].backward()
        optimizer.step()
    assert (head.predict_action(features) - actions).abs().max() <= 1 / 32 + 1e-6


def test_classifier_of_single_actions_returns_no_chunk_axis():
    head = DiscreteActionHead(5, action_dim=2, hidden_dim=8, num_bins=4)
    assert head.predict_action(torch.randn(3, 5)).shape == (3, 2)


def test_features_of_another_width_are_refused():
    head = DiscreteActionHead(5, action_dim=2, hidden_dim=8)
    with pytest.raises(ShapeError, match=r"\['B', 5\] \(batch, feature_dim\), got \[3, 6\]"):
        head.predict_action(torch.randn(3, 6))


def test_unknown_keyword_is_refused(head):
    with pytest.raises(TypeError, match="no keywords \\['steps'\\]"):
        head.predict_action(torch.zeros(1, 6, 16), steps=3)
