# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads.base import AbstractActionHead
from vla_core.models.action_heads.denoiser import TIME_DIM
from vla_core.models.action_heads.flow_matching import FlowMatchingActionHead
from vla_core.models.action_heads.flow_path import embed_flow_times

both = pytest.mark.parametrize("convention", ["pi0", "gr00t"])


def make_head(**overrides):
    torch.manual_seed(0)
    settings = {
        "feature_dim": 6,
        "action_dim": 2,
        "chunk_size": 4,
        "hidden_dim": 16,
        **overrides,
    }
    head = FlowMatchingActionHead(**settings)
    with torch.no_grad():  # Away from the zero-initialised layers, so that inputs matter.
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return head.eval()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_head_implements_the_interface():
    assert isinstance(make_head(), AbstractActionHead)


@both
def test_loss_is_the_error_of_the_velocity_at_the_drawn_times(convention):
    head = make_head(convention=convention)
    features, actions = torch.randn(3, 6), torch.randn(3, 4, 2)
    draws = generator()
    noise = torch.randn(3, 4, 2, generator=draws)
    times = head.path.draw_times(3, torch.device("cpu"), draws)
    modulations = head.denoiser.modulations(features, embed_flow_times(times, TIME_DIM))
    x = head.path.interpolate(actions, noise, times)
    predicted = head.denoiser(x.flatten(1), modulations).view(3, 4, 2)
    loss = head.compute_loss(features, actions, generator=generator())["loss"]
    truth = head.path.velocity(actions, noise)
    torch.testing.assert_close(loss, (predicted - truth).square().mean())


@pytest.mark.parametrize("content", [7.0, float("nan")])
def test_content_of_padded_steps_changes_neither_loss_nor_gradient(content):
    head = make_head()
    features, actions = torch.randn(3, 6), torch.randn(3, 4, 2)
    is_pad = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    results = []
    for filled in (actions, actions.masked_fill(is_pad[..., None], content)):
        head.zero_grad()
        loss = head.compute_loss(features, filled, is_pad, generator())["loss"]
        loss.backward()
        results.append([loss.detach(), *(parameter.grad for parameter in head.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@both
def test_sampling_is_reproducible_from_a_generator(convention):
    head, features = make_head(convention=convention), torch.randn(3, 6)
    first = head.predict_action(features, generator(1))
    assert torch.equal(first, head.predict_action(features, generator(1)))
    assert not torch.equal(first, head.predict_action(features, generator(2)))


def test_actions_are_clipped_on_request():
    actions = make_head(clip_sample=0.3).predict_action(torch.randn(50, 6), generator())
    assert actions.abs().max() <= 0.3


def test_steps_given_in_the_call_go_before_those_of_the_constructor():
    features, noise = torch.randn(3, 6), torch.randn(3, 4, 2)
    given = make_head().predict_action(features, inference_steps=3, noise=noise)
    built = make_head(inference_steps=3).predict_action(features, noise=noise)
    assert torch.equal(given, built)


def test_training_never_integrates():
    head, calls = make_head().train(), []
    head.denoiser.register_forward_hook(lambda *_: calls.append(1))
    head.compute_loss(torch.randn(3, 6), torch.randn(3, 4, 2))
    assert len(calls) == 1


@both
def test_two_modes_of_behaviour_are_both_sampled(convention):
    torch.manual_seed(0)
    head = FlowMatchingActionHead(1, 1, hidden_dim=32, inference_steps=20, convention=convention)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    features = torch.zeros(256, 1)
    for _ in range(300):
        modes = torch.where(torch.rand(256, 1) < 0.5, -0.8, 0.8)
        optimizer.zero_grad()
        head.compute_loss(features, modes)["loss"].backward()
        optimizer.step()
    samples = head.predict_action(features, generator())
    near_a_mode = (samples.abs() - 0.8).abs() < 0.25
    assert near_a_mode.float().mean() > 0.8
    assert 0.3 < (samples > 0).float().mean() < 0.7


def test_single_actions_have_no_chunk_axis():
    head = make_head(chunk_size=1)
    assert head.predict_action(torch.randn(3, 6)).shape == (3, 2)
    assert head.compute_loss(torch.randn(3, 6), torch.randn(3, 2))["loss"].isfinite()


def test_features_in_bfloat16_are_accepted():
    head = make_head()
    with torch.autocast("cpu", torch.bfloat16):
        features = torch.randn(3, 6).bfloat16()
        assert head.compute_loss(features, torch.randn(3, 4, 2))["loss"].dtype == torch.float32
        assert head.predict_action(features).dtype == torch.float32


def test_noise_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"noise must be \[3, 4, 2\], got \[3, 8\]"):
        make_head().predict_action(torch.randn(3, 6), noise=torch.randn(3, 8))


def test_misspelt_keyword_of_the_sampler_is_refused():
    with pytest.raises(TypeError, match="num_inference_steps"):
        make_head().predict_action(torch.randn(3, 6), num_inference_steps=3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"convention": "euler"}, "convention must be one of 'pi0', 'gr00t', got 'euler'"),
        ({"inference_steps": 0}, "at least 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        make_head(**setting)
