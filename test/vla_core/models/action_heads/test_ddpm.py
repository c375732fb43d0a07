# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads import AbstractActionHead, DDPMActionHead
from vla_core.models.action_heads.base import masked_mean


def make_head(**overrides):
    torch.manual_seed(0)
    settings = {
        "feature_dim": 6,
        "action_dim": 2,
        "chunk_size": 4,
        "hidden_dim": 16,
        "diffusion_steps": 12,
        **overrides,
    }
    head = DDPMActionHead(**settings)
    with torch.no_grad():  # Away from the zero-initialised layers, so that inputs matter.
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return head.eval()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_head_implements_the_interface():
    assert isinstance(make_head(), AbstractActionHead)


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_loss_is_the_error_of_the_denoiser_at_the_drawn_timesteps(prediction):
    head = make_head(prediction=prediction)
    features, actions = torch.randn(3, 6), torch.randn(3, 4, 2)
    draws = generator()
    noise = torch.randn(3, 4, 2, generator=draws)
    timesteps = torch.randint(12, (3,), generator=draws)
    noised = head.schedule.add_noise(actions, noise, timesteps)
    modulations = head.denoiser.modulations(features, head._times[timesteps])
    predicted = head.denoiser(noised.flatten(1), modulations).view(3, 4, 2)
    target = noise if prediction == "epsilon" else actions
    loss = head.compute_loss(features, actions, generator=generator())["loss"]
    torch.testing.assert_close(loss, (predicted - target).square().mean())


def test_untrained_head_predicts_zero_noise():
    torch.manual_seed(0)
    head = DDPMActionHead(6, 2, chunk_size=4, hidden_dim=16)
    loss = head.compute_loss(torch.randn(500, 6), torch.randn(500, 4, 2))["loss"]
    assert loss.item() == pytest.approx(1.0, abs=0.1)


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


def test_masked_loss_is_the_mean_over_valid_steps():
    values = torch.arange(12.0).view(1, 3, 4)
    valid = torch.tensor([[[True], [False], [True]]])
    assert masked_mean(values, valid).item() == values[0, [0, 2]].mean().item()


def test_batch_of_padding_alone_has_zero_loss():
    is_pad = torch.ones(3, 4, dtype=torch.bool)
    loss = make_head().compute_loss(torch.randn(3, 6), torch.randn(3, 4, 2), is_pad)["loss"]
    assert loss.item() == 0.0


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_sampling_is_reproducible_from_a_generator(sampler, prediction):
    head = make_head(sampler=sampler, prediction=prediction)
    features = torch.randn(3, 6)
    first = head.predict_action(features, generator(1))
    assert torch.equal(first, head.predict_action(features, generator(1)))
    assert not torch.equal(first, head.predict_action(features, generator(2)))


def test_ddim_depends_on_nothing_but_the_initial_noise():
    head = make_head(sampler="ddim")
    features, noise = torch.randn(3, 6), torch.randn(3, 4, 2)
    first = head.predict_action(features, generator(1), noise=noise)
    assert torch.equal(first, head.predict_action(features, generator(2), noise=noise))


def test_samples_stay_in_the_range_of_normalised_actions():
    actions = make_head(clip_sample=0.3).predict_action(torch.randn(50, 6), generator())
    assert actions.abs().max() <= 0.3


def test_sampler_takes_its_own_default_number_of_steps():
    assert len(make_head(sampler="ddpm")._steps) == 12
    assert len(make_head(sampler="ddim")._steps) == 10
    assert len(make_head(sampler="ddim", diffusion_steps=5)._steps) == 5


def test_steps_given_in_the_call_go_before_those_of_the_constructor():
    features, noise = torch.randn(3, 6), torch.randn(3, 4, 2)
    given = make_head(sampler="ddim").predict_action(features, inference_steps=3, noise=noise)
    built = make_head(sampler="ddim", inference_steps=3).predict_action(features, noise=noise)
    assert torch.equal(given, built)


def test_training_never_samples():
    head = make_head().train()
    calls = []
    head.denoiser.register_forward_hook(lambda *_: calls.append(1))
    head.compute_loss(torch.randn(3, 6), torch.randn(3, 4, 2))
    assert len(calls) == 1


def test_two_modes_of_behaviour_are_both_sampled():
    torch.manual_seed(0)
    head = DDPMActionHead(
        1, 1, hidden_dim=32, diffusion_steps=20, prediction="sample", sampler="ddim"
    )
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    features = torch.zeros(256, 1)
    for _ in range(250):
        modes = torch.where(torch.rand(256, 1) < 0.5, -0.8, 0.8)
        optimizer.zero_grad()
        head.compute_loss(features, modes)["loss"].backward()
        optimizer.step()
    samples = head.predict_action(features, generator())
    near_a_mode = (samples.abs() - 0.8).abs() < 0.2
    assert near_a_mode.float().mean() > 0.9
    assert 0.3 < (samples > 0).float().mean() < 0.7


def test_single_actions_have_no_chunk_axis():
    head = make_head(chunk_size=1)
    assert head.predict_action(torch.randn(3, 6)).shape == (3, 2)
    one = head.compute_loss(torch.randn(3, 6), torch.randn(3, 2), generator=generator())
    assert one["loss"].isfinite()


def test_features_in_bfloat16_are_accepted():
    head = make_head()
    with torch.autocast("cpu", torch.bfloat16):
        features = torch.randn(3, 6).bfloat16()
        assert head.compute_loss(features, torch.randn(3, 4, 2))["loss"].dtype == torch.float32
        assert head.predict_action(features).dtype == torch.float32


@pytest.mark.parametrize("shape", [(3, 2), (3, 5, 2), (3, 4, 3), (2, 4, 2)])
def test_actions_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeError, match=r"actions must be \[3, 4, 2\].*got"):
        make_head().compute_loss(torch.randn(3, 6), torch.randn(shape))


def test_padding_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"action_is_pad must be bool \[3, 4\].*\[3, 4, 2\]"):
        make_head().compute_loss(
            torch.randn(3, 6), torch.randn(3, 4, 2), torch.zeros(3, 4, 2, dtype=torch.bool)
        )


def test_noise_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"noise must be \[3, 4, 2\], got \[3, 8\]"):
        make_head().predict_action(torch.randn(3, 6), noise=torch.randn(3, 8))


def test_misspelt_keyword_of_the_sampler_is_refused():
    with pytest.raises(TypeError, match="num_inference_steps"):
        make_head().predict_action(torch.randn(3, 6), num_inference_steps=3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sampler": "euler"}, "sampler must be one of 'ddpm', 'ddim', got 'euler'"),
        ({"prediction": "v"}, "prediction must be one of 'epsilon', 'sample', got 'v'"),
        ({"inference_steps": 13}, "1 to 12"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        make_head(**setting)
