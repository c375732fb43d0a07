# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads.base import AbstractActionHead
from vla_core.models.action_heads.dit import DiTActionHead
from vla_core.models.action_heads.process import PROCESSES

every = pytest.mark.parametrize("process", PROCESSES)


def make_head(**overrides):
    torch.manual_seed(0)
    settings = {
        "action_dim": 2,
        "chunk_size": 4,
        "hidden_dim": 16,
        "num_blocks": 3,
        "num_heads": 2,
        "num_future_tokens": 3,
        "diffusion_steps": 10,
        **overrides,
    }
    head = DiTActionHead(6, **settings)
    with torch.no_grad():  # Away from the zero-initialised layers, so that inputs matter.
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return head.eval()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@every
def test_actions_and_loss_have_the_shapes_of_the_interface(process):
    head = make_head(process=process)
    assert isinstance(head, AbstractActionHead)
    features = torch.randn(3, 7, 6)
    assert head.predict_action(features).shape == (3, 4, 2)
    losses = head.compute_loss(features, torch.randn(3, 4, 2))
    assert set(losses) == {"loss", "flow_loss" if process == "flow" else "diffusion_loss"}
    assert losses["loss"].shape == ()


def test_blocks_take_turns_between_the_tokens_and_its_own():
    assert [block.is_cross for block in make_head().blocks] == [True, False, True]


def test_what_the_mask_hides_has_no_effect():
    head, noise = make_head(), torch.randn(2, 4, 2)
    features, mask = torch.randn(2, 5, 6), torch.tensor([[1, 1, 0, 1, 1], [1, 1, 0, 1, 1]]).bool()
    changed = features.clone()
    changed[:, 2] += 5.0
    before = head.predict_action(features, noise=noise, mask=mask)
    assert torch.equal(head.predict_action(changed, noise=noise, mask=mask), before)
    assert not torch.allclose(head.predict_action(changed, noise=noise), before, atol=1e-4)


def test_the_state_matters():
    head, features, noise = make_head(), torch.randn(2, 5, 6), torch.randn(2, 4, 2)
    one, other = (
        head.predict_action(features, noise=noise, state=state)
        for state in (torch.randn(2, 16), torch.randn(2, 16))
    )
    assert not torch.allclose(one, other, atol=1e-4)


def test_one_vector_is_one_token():
    head, features, noise = make_head(), torch.randn(2, 6), torch.randn(2, 4, 2)
    one = head.predict_action(features, noise=noise)
    assert torch.equal(one, head.predict_action(features.unsqueeze(1), noise=noise))


@pytest.mark.parametrize("content", [7.0, float("nan")])
def test_content_of_padded_steps_changes_neither_loss_nor_gradient(content):
    head = make_head()
    features, actions = torch.randn(3, 5, 6), torch.randn(3, 4, 2)
    is_pad = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    results = []
    for filled in (actions, actions.masked_fill(is_pad[..., None], content)):
        head.zero_grad()
        loss = head.compute_loss(features, filled, is_pad, generator())["loss"]
        loss.backward()
        results.append([loss.detach(), *(parameter.grad for parameter in head.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@every
def test_sampling_is_reproducible_from_a_generator(process):
    head, features = make_head(process=process), torch.randn(3, 5, 6)
    first = head.predict_action(features, generator(1))
    assert torch.equal(first, head.predict_action(features, generator(1)))
    assert not torch.equal(first, head.predict_action(features, generator(2)))


@every
def test_training_never_samples(process):
    head, calls = make_head(process=process).train(), []
    head.action_out.register_forward_hook(lambda *_: calls.append(1))
    head.compute_loss(torch.randn(3, 5, 6), torch.randn(3, 4, 2))
    assert len(calls) == 1


def test_steps_given_in_the_call_go_before_those_of_the_constructor():
    head, calls = make_head(inference_steps=5), []
    head.action_out.register_forward_hook(lambda *_: calls.append(1))
    head.predict_action(torch.randn(3, 5, 6), inference_steps=3)
    assert len(calls) == 3


def test_noise_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"noise must be \[3, 4, 2\], got \[3, 8\]"):
        make_head().predict_action(torch.randn(3, 5, 6), noise=torch.randn(3, 8))


def test_misspelt_keyword_of_the_sampler_is_refused():
    with pytest.raises(TypeError, match="num_inference_steps"):
        make_head().predict_action(torch.randn(3, 5, 6), num_inference_steps=3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"process": "euler"}, "process must be one of 'ddpm', 'ddim', 'flow', got 'euler'"),
        ({"num_blocks": 0}, "num_blocks must be at least 1, got 0"),
        ({"num_heads": 3}, "num_heads must divide dim"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        make_head(**setting)
