# SPDX-License-Identifier: MIT
import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_divergence

from vla_core.models.action_heads import CVAEActionHead
from vla_core.models.action_heads.cvae import kl_divergence, sample_latent

BATCH, FEATURES, ACTION_DIM, CHUNK_SIZE = 3, 6, 2, 4


def make_head(**overrides):
    torch.manual_seed(0)
    settings = {"chunk_size": CHUNK_SIZE, "latent_dim": 5, "hidden_dim": 16, **overrides}
    return CVAEActionHead(FEATURES, ACTION_DIM, **settings).eval()


def rand(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_divergence_is_zero_at_the_prior():
    assert kl_divergence(torch.zeros(2, 5), torch.zeros(2, 5)) == 0.0


def test_divergence_is_the_sum_over_dimensions_of_the_known_one():
    mean, log_variance = rand(7, 5), rand(7, 5, seed=2)
    known = torch_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, log_variance), known.sum(-1).mean())


def test_drawn_latents_have_the_mean_and_deviation_they_were_drawn_with():
    mean, log_variance = torch.full((50_000, 1), 2.0), torch.full((50_000, 1), -1.0)
    drawn = sample_latent(mean, log_variance, seeded())
    assert drawn.mean().item() == pytest.approx(2.0, abs=0.01)
    assert drawn.std().item() == pytest.approx(torch.tensor(-0.5).exp().item(), abs=0.01)


def test_latent_carries_gradients_to_mean_and_deviation():
    mean, log_variance = rand(2, 3).requires_grad_(), rand(2, 3, seed=2).requires_grad_()
    sample_latent(mean, log_variance, seeded()).sum().backward()
    assert (mean.grad == 1.0).all()
    assert (log_variance.grad != 0.0).all()


def test_posterior_tells_actions_apart():
    head = make_head()
    valid = torch.ones(BATCH, CHUNK_SIZE, 1, dtype=torch.bool)
    features = rand(BATCH, FEATURES)
    means = [
        head.posterior(rand(BATCH, CHUNK_SIZE, ACTION_DIM, seed=seed), features, valid)[0]
        for seed in (1, 2)
    ]
    assert not torch.allclose(*means, atol=1e-3)


def test_posterior_of_an_unknown_condition_is_finite():
    valid = torch.ones(BATCH, CHUNK_SIZE, 1, dtype=torch.bool)
    mean, log_variance = make_head().posterior(rand(BATCH, CHUNK_SIZE, ACTION_DIM), None, valid)
    assert mean.isfinite().all()
    assert log_variance.isfinite().all()


def test_prediction_is_deterministic_unless_the_prior_is_drawn():
    head, features = make_head(), rand(BATCH, FEATURES)
    assert torch.equal(head.predict_action(features), head.predict_action(features))
    drawn = [head.predict_action(features, seeded(seed), sample_prior=True) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])


def test_loss_is_reconstruction_and_weighted_divergence():
    head = make_head(kl_weight=0.25)
    actions = rand(BATCH, CHUNK_SIZE, ACTION_DIM)
    losses = head.compute_loss(rand(BATCH, FEATURES), actions, generator=seeded())
    total = losses["reconstruction_loss"] + 0.25 * losses["kl_loss"]
    torch.testing.assert_close(losses["loss"], total)


def test_content_of_padded_steps_does_not_change_the_loss():
    head, features = make_head(), rand(BATCH, FEATURES)
    actions = rand(BATCH, CHUNK_SIZE, ACTION_DIM)
    is_pad = torch.zeros(BATCH, CHUNK_SIZE, dtype=torch.bool)
    is_pad[1, 1:] = True
    changed = actions.masked_fill(is_pad[..., None], float("nan"))
    losses = [head.compute_loss(features, a, is_pad, seeded())["loss"] for a in (actions, changed)]
    assert torch.equal(*losses)
