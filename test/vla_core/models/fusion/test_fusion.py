# SPDX-License-Identifier: MIT
"""What every fusion promises."""

import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.fusion import (
    ConcatenationFusion,
    CrossAttentionFusion,
    FiLMFusion,
    GatedFusion,
)

VISION_DIM, TEXT_DIM, STATE_DIM, OUTPUT_DIM, BATCH = 12, 8, 5, 16, 3
FUSIONS = [ConcatenationFusion, CrossAttentionFusion, FiLMFusion, GatedFusion]


@pytest.fixture(params=FUSIONS)
def build(request):
    """Return the constructor of a fusion whose every weight has an effect."""

    def build_disturbed(state_dim=STATE_DIM):
        torch.manual_seed(0)
        fusion = request.param(VISION_DIM, TEXT_DIM, state_dim, OUTPUT_DIM)
        with torch.no_grad():
            for parameter in fusion.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return fusion

    return build_disturbed


def make_inputs(seed=0):
    draws = torch.Generator().manual_seed(seed)
    return {
        "vision": torch.randn(BATCH, 6, VISION_DIM, generator=draws),
        "text": torch.randn(BATCH, 4, TEXT_DIM, generator=draws),
        "state": torch.randn(BATCH, STATE_DIM, generator=draws),
    }


def test_tokens_and_state_become_one_vector(build):
    assert build()(**make_inputs()).shape == (BATCH, OUTPUT_DIM)


def test_vectors_are_tokens_of_length_one(build):
    fusion, inputs = build(), make_inputs()
    vision, text = inputs["vision"][:, :1], inputs["text"][:, :1]
    expected = fusion(vision, text, inputs["state"])
    assert torch.equal(fusion(vision[:, 0], text[:, 0], inputs["state"]), expected)


@pytest.mark.parametrize("modality", ["vision", "text", "state"])
def test_each_modality_matters(build, modality):
    fusion, inputs = build(), make_inputs()
    changed = {**inputs, modality: make_inputs(seed=1)[modality]}
    assert not torch.allclose(fusion(**inputs), fusion(**changed), atol=1e-4)


def test_a_row_does_not_depend_on_the_other_rows(build):
    fusion, inputs = build(), make_inputs()
    alone = fusion(**{name: value[1:2] for name, value in inputs.items()})
    torch.testing.assert_close(fusion(**inputs)[1:2], alone)


def test_gradients_reach_every_parameter(build):
    fusion = build()
    fusion(**make_inputs()).square().sum().backward()
    assert [n for n, p in fusion.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_a_robot_without_state_is_possible(build):
    inputs = make_inputs()
    assert build(state_dim=0)(inputs["vision"], inputs["text"]).shape == (BATCH, OUTPUT_DIM)


@pytest.mark.parametrize(
    ("name", "expected"), [("vision", VISION_DIM), ("text", TEXT_DIM), ("state", STATE_DIM)]
)
def test_another_width_is_refused_with_both_widths(build, name, expected):
    inputs = make_inputs()
    inputs[name] = inputs[name][..., :3]
    with pytest.raises(ShapeError, match=rf"{name} must have width {expected} .*got 3"):
        build()(**inputs)


def test_a_missing_state_is_refused(build):
    inputs = make_inputs()
    with pytest.raises(ShapeError, match=r"state must have width 5 .*got 0"):
        build()(inputs["vision"], inputs["text"])


def test_film_starts_with_the_images_alone():
    inputs, other = make_inputs(), make_inputs(seed=1)
    fusion = FiLMFusion(VISION_DIM, TEXT_DIM, STATE_DIM, OUTPUT_DIM)
    expected = fusion(**inputs)
    assert torch.equal(fusion(inputs["vision"], other["text"], other["state"]), expected)


def test_closed_gates_silence_every_modality():
    fusion = GatedFusion(VISION_DIM, TEXT_DIM, STATE_DIM, OUTPUT_DIM)
    with torch.no_grad():
        fusion.gates.bias.fill_(-1e4)
    assert torch.equal(fusion(**make_inputs()), torch.zeros(BATCH, OUTPUT_DIM))


def test_cross_attention_does_not_depend_on_the_order_of_vision_tokens():
    torch.manual_seed(0)
    fusion, inputs = CrossAttentionFusion(VISION_DIM, TEXT_DIM, 0, OUTPUT_DIM), make_inputs()
    flipped = fusion(inputs["vision"].flip(1), inputs["text"])
    torch.testing.assert_close(fusion(inputs["vision"], inputs["text"]), flipped)


def test_a_negative_state_width_is_refused():
    with pytest.raises(ConfigError, match=r"state_dim must be 0 .*got -1"):
        GatedFusion(VISION_DIM, TEXT_DIM, -1, OUTPUT_DIM)
