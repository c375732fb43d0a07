# SPDX-License-Identifier: MIT
import numpy as np
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.frameworks.openvla import ACTION_TOKEN_PATTERNS, OpenVLA
from vla_core.models.frameworks.rt2 import RT2VLA
from vla_core.models.vlm import TinyVLM, VLMOutput
from vla_core.models.vlm.base import AbstractVLM

patterns = pytest.mark.parametrize("pattern", ACTION_TOKEN_PATTERNS)
BINS = 8
TEXTS = ["pick up the red block", "lift"]
STATE = torch.linspace(-1, 1, 8).view(2, 4)


def make_vlm():
    return TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2, num_action_tokens=BINS)


def build(pattern="last", **overrides):
    torch.manual_seed(0)
    settings = {
        "action_dim": 3,
        "hidden_dim": 24,
        "chunk_size": 2,
        "state_dim": 4,
        "num_bins": BINS,
        **overrides,
    }
    return OpenVLA(make_vlm(), action_token_pattern=pattern, **settings).eval()


def make_images(batch=2, cameras=2):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, cameras, 3, 32, 32, generator=generator)


def make_actions():
    return torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


@patterns
def test_every_pattern_predicts_and_learns(pattern):
    model = build(pattern)
    assert model.predict_action(make_images(), TEXTS, STATE).shape == (2, 2, 3)
    outputs = model(make_images(), TEXTS, STATE, actions=make_actions())
    outputs["loss"].backward()
    name = "token_loss" if pattern == "autoregressive" else "l1_loss"
    assert torch.equal(outputs["loss"], outputs[name])
    assert model.vlm.stem.patches.weight.grad.abs().sum() > 0


@patterns
def test_every_pattern_sees_images_text_and_state(pattern):
    model = build(pattern)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    before = model(make_images(), TEXTS, STATE)["features"]
    for other in (
        model(torch.zeros_like(make_images()), TEXTS, STATE),
        model(make_images().flip(1), TEXTS, STATE),
        model(make_images(), "push it away", STATE),
        model(make_images(), TEXTS, -STATE),
        model(make_images(), TEXTS),
    ):
        assert not torch.allclose(other["features"], before, atol=1e-4)


def test_a_frozen_model_without_weights_of_its_own_cannot_be_trained():
    model = build("autoregressive", state_dim=None, fine_tune_vlm=False)
    assert model(make_images(), TEXTS, actions=make_actions())["loss"].isfinite()
    with pytest.raises(ConfigError, match="OpenVLA has nothing to train"):
        model.train()(make_images(), TEXTS, actions=make_actions())


@patterns
def test_what_cannot_be_a_state_is_refused_also_where_none_is_read(pattern):
    with pytest.raises(ShapeError, match=r"must be a tensor \[2, state_dim\], got \[3, 4\]"):
        build(pattern, state_dim=None).predict_action(make_images(), TEXTS, torch.zeros(3, 4))


@patterns
def test_state_is_not_read_unless_its_width_is_given(pattern):
    model = build(pattern, state_dim=None)
    without = model.predict_action(make_images(), TEXTS)
    assert torch.equal(model.predict_action(make_images(), TEXTS, STATE), without)


@patterns
def test_any_number_of_cameras_will_do_unless_one_is_given(pattern):
    model = build(pattern)
    for cameras in (1, 2, 3):
        assert model.predict_action(make_images(cameras=cameras), TEXTS).shape == (2, 2, 3)


@pytest.mark.parametrize("pattern", ["first", "last", "special"])
def test_head_reads_as_many_tokens_as_asked_for(pattern):
    model = build(pattern, num_action_tokens=3, state_dim=None)
    assert model(make_images(), TEXTS)["features"].shape == (2, 3 * 16)


@pytest.mark.parametrize("pattern", ["mean", "oft", "autoregressive"])
def test_number_of_tokens_of_other_patterns_cannot_be_chosen(pattern):
    with pytest.raises(ConfigError, match=f"is 2, but action_token_pattern '{pattern}' has its"):
        build(pattern, num_action_tokens=2)


def test_no_action_token_is_refused():
    with pytest.raises(ConfigError, match="num_action_tokens must be at least 1, got 0"):
        build(num_action_tokens=0)


def test_unknown_pattern_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"must be one of 'first', 'last', .*got 'middle'"):
        build("middle")


def test_special_tokens_are_learned():
    model = build("special", num_action_tokens=2)
    model(make_images(), TEXTS, STATE, actions=make_actions())["loss"].backward()
    assert model.action_tokens.shape == (2, 16)
    assert (model.action_tokens.grad.abs().sum(dim=1) > 0).all()


def test_oft_has_a_token_for_each_number_of_the_chunk():
    features = build("oft")(make_images(), TEXTS, STATE)["features"]
    assert features.shape == (2, 2, 3 * 16)
    assert features.view(2, 6, 16).unique(dim=1).shape[1] == 6


def test_oft_s_tokens_see_each_other_in_both_directions():
    model = build("oft", state_dim=None)
    prefix = model.vlm.prefill(make_images(), TEXTS)
    empty = prefix.features.new_zeros(2, 6, 16)
    parallel = model.vlm.extend(empty, prefix, causal=False).hidden
    causal = model.vlm.extend(empty, prefix, causal=True).hidden
    used = model(make_images(), TEXTS)["features"].view(2, 6, 16)
    torch.testing.assert_close(used, parallel)
    assert not torch.allclose(used[:, 0], causal[:, 0], atol=1e-5)


def test_autoregressive_pattern_is_rt2_s_decoding():
    model = build("autoregressive")
    rt2 = RT2VLA(
        model.vlm, action_dim=3, num_bins=BINS, temperature=0.0, state_dim=4, chunk_size=2
    )
    rt2.state_token = model.state_features
    expected = rt2.predict_action(make_images(), TEXTS, STATE)
    assert torch.equal(model.predict_action(make_images(), TEXTS, STATE), expected)
    losses = [m(make_images(), TEXTS, STATE, actions=make_actions())["loss"] for m in (model, rt2)]
    assert torch.equal(*losses)


def test_autoregressive_pattern_samples_on_request():
    model = build("autoregressive")
    draws = [
        model.predict_action(
            make_images(),
            TEXTS,
            temperature=2.0,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_regressed_actions_have_no_temperature():
    with pytest.raises(TypeError, match="no keywords \\['temperature'\\]"):
        build("last").predict_action(make_images(), TEXTS, temperature=1.0)


class EncoderOnly(AbstractVLM):
    name = "encoder-only"
    hidden_size = 4

    def encode(self, images, text):
        features = images.mean(dim=(-1, -2)).repeat(1, 1, 2)[..., :4]
        mask = torch.ones(features.shape[:2], dtype=torch.bool)
        return VLMOutput(features, mask, slice(0, 1), slice(1, 2))

    def get_config(self):
        return {"name": self.name}


@pytest.mark.parametrize("pattern", ["first", "last", "mean"])
def test_vlm_that_only_encodes_serves_the_reading_patterns(pattern):
    model = OpenVLA(EncoderOnly(), action_dim=3, action_token_pattern=pattern, hidden_dim=8)
    assert model.predict_action(make_images(), "lift").shape == (2, 3)


@pytest.mark.parametrize("pattern", ["special", "oft"])
def test_vlm_that_only_encodes_is_named_where_more_is_needed(pattern):
    model = OpenVLA(EncoderOnly(), action_dim=3, action_token_pattern=pattern, hidden_dim=8)
    with pytest.raises(ConfigError, match="vlm 'encoder-only' has no prefill"):
        model.predict_action(make_images(), "lift")


def test_vlm_without_action_tokens_is_refused_for_the_autoregressive_pattern():
    with pytest.raises(ConfigError, match="vlm 'encoder-only' has no action_token_ids"):
        OpenVLA(EncoderOnly(), action_token_pattern="autoregressive")


@pytest.mark.parametrize(
    ("preset", "pattern", "chunk_size"), [("reference", "autoregressive", 1), ("oft", "oft", 8)]
)
def test_presets_choose_the_published_variants(preset, pattern, chunk_size):
    model = OpenVLA.from_preset(preset, vlm=make_vlm(), num_bins=BINS, hidden_dim=16)
    config = model.get_config()
    assert config["action_token_pattern"] == pattern
    assert config["chunk_size"] == chunk_size
    assert "{}" in config["prompt_template"]


def test_reference_means_by_a_token_what_the_published_weights_mean():
    vlm = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2, num_action_tokens=255)
    model = OpenVLA.from_preset("reference", vlm=vlm, action_dim=1)
    actions = torch.rand(500, 1, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    bins = model.action_head.bins.quantize(actions)
    # As in OpenVLA's action tokenizer, but that an action of exactly 1 has a 256th token there.
    edges = np.linspace(-1, 1, 256)
    digits = np.digitize(actions.numpy().clip(-1, 1), edges).clip(max=255)
    assert np.array_equal(model.decoder.token_ids[bins].numpy(), vlm.vocab_size - digits)
    centres = ((edges[:-1] + edges[1:]) / 2)[digits - 1]
    np.testing.assert_allclose(model.action_head.bins.dequantize(bins), centres, atol=1e-6)


def test_prompt_template_surrounds_the_instruction():
    model, plain = build(prompt_template="robot , {} now"), build()
    expected = plain(make_images(), [f"robot , {text} now" for text in TEXTS])["features"]
    assert torch.equal(model(make_images(), TEXTS)["features"], expected)
