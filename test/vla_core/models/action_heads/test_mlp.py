# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads import MLPActionHead

FEATURES, ACTION_DIM, CHUNK_SIZE, BATCH = 6, 3, 4, 2


def make_head(**overrides):
    torch.manual_seed(0)
    settings = {"chunk_size": CHUNK_SIZE, "hidden_dim": 16, **overrides}
    return MLPActionHead(FEATURES, ACTION_DIM, **settings)


def make_features(*shape):
    return torch.randn(*(shape or (BATCH, FEATURES)), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("loss", "error_of_two"), [("l1", 2.0), ("mse", 4.0), ("huber", 1.5)])
def test_loss_of_a_constant_error_is_the_formula_s(loss, error_of_two):
    head = make_head(loss=loss)
    features = make_features()
    losses = head.compute_loss(features, head.predict_action(features) + 2.0)
    assert set(losses) == {"loss", f"{loss}_loss"}
    assert losses["loss"].item() == pytest.approx(error_of_two, rel=1e-5)


def test_true_actions_have_no_loss():
    head = make_head()
    features = make_features()
    assert head.compute_loss(features, head.predict_action(features))["loss"] == 0.0


def test_loss_is_divided_by_the_number_of_valid_steps():
    head = make_head()
    features = make_features()
    actions = head.predict_action(features) + 2.0
    is_pad = torch.zeros(BATCH, CHUNK_SIZE, dtype=torch.bool)
    is_pad[0, 1:] = True
    assert head.compute_loss(features, actions, is_pad)["loss"].item() == pytest.approx(2.0)


def test_features_per_step_give_each_step_from_its_own_features():
    head = make_head(per_step=True)
    features = make_features(BATCH, CHUNK_SIZE, FEATURES)
    changed = features.clone()
    changed[:, 2] += 1.0
    before, after = head.predict_action(features), head.predict_action(changed)
    different = (before != after).any(-1)
    assert different[:, 2].all()
    assert not different[:, [0, 1, 3]].any()


def test_single_action_has_no_chunk_axis():
    assert make_head(chunk_size=1).predict_action(make_features()).shape == (BATCH, ACTION_DIM)


def test_prediction_carries_no_gradient_and_regression_does():
    head = make_head()
    assert not head.predict_action(make_features()).requires_grad
    assert head.regress(make_features()).requires_grad


def test_features_of_another_width_are_refused():
    with pytest.raises(ShapeError, match=r"features must be \['B', 6\].*got \[2, 5\]"):
        make_head().predict_action(make_features(BATCH, 5))


def test_one_feature_vector_is_refused_where_every_step_needs_its_own():
    with pytest.raises(ShapeError, match=r"\['B', 4, 6\] \(batch, chunk_size, feature_dim\)"):
        make_head(per_step=True).predict_action(make_features())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "l2"}, "loss must be one of 'l1', 'mse', 'huber', got 'l2'"),
        ({"num_blocks": -1}, "num_blocks must not be negative, got -1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_head(**settings)
