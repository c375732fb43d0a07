# SPDX-License-Identifier: MIT
"""What every vision-language model that can be continued keeps to."""

import json

import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.vlm import AbstractVLM, VLMOutput, get_vlm, vlm_from_config

SMALL = {
    "florence2": {"size": "tiny"},
    "internvl": {"size": "tiny"},
    "llava": {"size": "tiny"},
    "paligemma": {"size": "tiny"},
    "prismatic": {"size": "tiny"},
    "qwen2_5_vl": {"size": "tiny"},
    "qwen3_vl": {"size": "tiny"},
    "smolvlm": {"size": "tiny"},
    "tiny": {
        "image_size": 32,
        "hidden_size": 16,
        "depth": 2,
        "num_heads": 2,
        "num_action_tokens": 9,
    },
}
TEXTS = ["pick up the red block", "lift"]


@pytest.fixture(scope="module", params=sorted(SMALL))
def vlm(request):
    if request.param != "tiny":
        pytest.importorskip("transformers")
    return get_vlm(request.param, **SMALL[request.param]).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def prefix(vlm):
    return vlm.prefill(images(), TEXTS)


def images(batch=2, cameras=2, seed=0):
    return torch.rand(batch, cameras, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def tokens(vlm, count, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return vlm.embed_tokens(torch.randint(1, vlm.vocab_size, (batch, count), generator=generator))


def test_prefix_has_the_features_of_encode_bit_for_bit(vlm, prefix):
    output = vlm.encode(images(), TEXTS)
    assert torch.equal(prefix.features, output.features)
    assert torch.equal(prefix.mask, output.mask)


def test_keys_and_values_have_the_announced_layout(vlm, prefix):
    layout = vlm.attention_layout
    expected = (2, layout.num_kv_heads, prefix.length, layout.head_dim)
    assert len(prefix.key_values) == layout.num_layers
    assert layout.num_heads % layout.num_kv_heads == 0
    for key, value in prefix.key_values:
        assert key.shape == value.shape == expected


def test_causal_tokens_in_one_go_equal_one_by_one(vlm, prefix):
    embeddings = tokens(vlm, 4)
    together = vlm.extend(embeddings, prefix)
    steps, known = [], prefix
    for position in range(4):
        step = vlm.extend(embeddings[:, position : position + 1], known)
        steps.append(step.hidden)
        known = step.prefix
    torch.testing.assert_close(torch.cat(steps, dim=1), together.hidden, atol=1e-5, rtol=1e-4)
    assert torch.equal(known.positions, together.prefix.positions)


def test_causal_token_does_not_see_later_ones(vlm, prefix):
    embeddings = tokens(vlm, 3)
    other = torch.cat([embeddings[:, :2], tokens(vlm, 1, seed=7)], dim=1)
    one, two = vlm.extend(embeddings, prefix).hidden, vlm.extend(other, prefix).hidden
    torch.testing.assert_close(one[:, :2], two[:, :2])
    assert not torch.allclose(one[:, 2], two[:, 2], atol=1e-4)


def test_bidirectional_token_sees_later_ones(vlm, prefix):
    embeddings = tokens(vlm, 3)
    other = torch.cat([embeddings[:, :2], tokens(vlm, 1, seed=7)], dim=1)
    one = vlm.extend(embeddings, prefix, causal=False).hidden
    two = vlm.extend(other, prefix, causal=False).hidden
    assert not torch.allclose(one[:, 0], two[:, 0], atol=1e-5)


def test_last_token_is_the_same_in_both_directions(vlm, prefix):
    embeddings = tokens(vlm, 1)
    causal, both = (vlm.extend(embeddings, prefix, causal=flag).hidden for flag in (True, False))
    torch.testing.assert_close(causal, both)


def test_prefix_does_not_change_with_what_comes_after(vlm, prefix):
    longer = vlm.extend(tokens(vlm, 3), prefix).prefix
    length = prefix.length
    assert longer.length == length + 3
    assert torch.equal(longer.features[:, :length], prefix.features)
    assert torch.equal(longer.positions[:, :length], prefix.positions)
    for old, new in zip(prefix.key_values, longer.key_values, strict=True):
        assert torch.equal(new[0][:, :, :length], old[0])
        assert torch.equal(new[1][:, :, :length], old[1])


def test_a_prefix_can_be_continued_twice(vlm, prefix):
    first = vlm.extend(tokens(vlm, 2), prefix).hidden
    vlm.extend(tokens(vlm, 5, seed=3), prefix)
    assert torch.equal(vlm.extend(tokens(vlm, 2), prefix).hidden, first)


def test_padding_is_not_attended_to(vlm):
    longer = vlm.prefill(images(), [TEXTS[1], "a much longer text than the other one"])
    alone = vlm.prefill(images()[:1], TEXTS[1])
    assert not longer.mask[0].all()
    begun, expected = vlm.begin(longer).hidden[:1], vlm.begin(alone).hidden
    torch.testing.assert_close(begun, expected, atol=1e-5, rtol=1e-4)
    hidden = vlm.extend(tokens(vlm, 2), longer).hidden[:1]
    hidden_alone = vlm.extend(tokens(vlm, 2)[:1], alone).hidden
    torch.testing.assert_close(hidden, hidden_alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("changed", ["text", "first camera", "second camera"])
def test_what_follows_depends_on_every_input(vlm, prefix, changed):
    pixels, texts = images(), list(TEXTS)
    if changed == "text":
        texts = ["push it away", "push it away"]
    else:
        pixels[:, 0 if changed == "first camera" else 1] = 0.1
    other = vlm.prefill(pixels, texts)
    begun, changed_begun = vlm.begin(prefix).hidden, vlm.begin(other).hidden
    assert not torch.allclose(begun, changed_begun, atol=1e-5)


def test_order_of_following_tokens_matters(vlm, prefix):
    pair = vlm.extend(tokens(vlm, 2), prefix, causal=False).hidden
    swapped = vlm.extend(tokens(vlm, 2).flip(1), prefix, causal=False).hidden.flip(1)
    assert not torch.allclose(pair, swapped, atol=1e-5)


def test_rows_of_a_prefix_are_those_of_the_batch(vlm, prefix):
    second = prefix.rows(torch.tensor([1]))
    hidden = vlm.extend(tokens(vlm, 2)[1:], second).hidden
    expected = vlm.extend(tokens(vlm, 2), prefix).hidden[1:]
    torch.testing.assert_close(hidden, expected, atol=1e-5, rtol=1e-4)


def test_logits_cover_the_vocabulary(vlm, prefix):
    hidden = vlm.extend(tokens(vlm, 3), prefix).hidden
    assert hidden.shape == (2, 3, vlm.hidden_size)
    assert vlm.logits(hidden).shape == (2, 3, vlm.vocab_size)


def test_teacher_forcing_predicts_what_generation_takes(vlm, prefix):
    ids = vlm.generate(images(), TEXTS, max_new_tokens=4)
    assert ids.shape == (2, 4)
    predicted = vlm.logits(vlm.predict_hidden(prefix, ids)).argmax(dim=-1)
    assert torch.equal(predicted, ids)


def test_generation_keeps_to_the_allowed_ids(vlm):
    allowed = vlm.action_token_ids(5)
    ids = vlm.generate(
        images(), TEXTS, 6, temperature=2.0, allowed_ids=allowed, generator=generator()
    )
    assert torch.isin(ids, allowed).all()


def test_greedy_generation_is_reproducible(vlm):
    first = vlm.generate(images(), TEXTS, 4)
    torch.rand(3)
    assert torch.equal(vlm.generate(images(), TEXTS, 4), first)


def test_sampling_follows_the_generator(vlm):
    def sample(seed):
        return vlm.generate(images(), TEXTS, 8, temperature=5.0, generator=generator(seed))

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


def test_at_least_one_token_is_generated(vlm):
    with pytest.raises(ConfigError, match="max_new_tokens must be at least 1, got 0"):
        vlm.generate(images(), TEXTS, 0)


def test_action_tokens_are_distinct_ids_of_the_vocabulary(vlm):
    ids = vlm.action_token_ids(7)
    assert ids.dtype == torch.int64
    assert ids.unique().numel() == 7
    assert ids.max() < vlm.vocab_size


def test_more_action_tokens_than_the_vocabulary_has_are_refused(vlm):
    with pytest.raises(ConfigError, match=f"vlm '{vlm.name}' has .*100000 are needed"):
        vlm.action_token_ids(100_000)


def test_detached_prefix_takes_no_gradient(vlm):
    trained = vlm_from_config(vlm.get_config()).train()
    read = trained.prefill(images(), TEXTS).detach()
    assert not read.features.requires_grad
    assert not any(part.requires_grad for pair in read.key_values for part in pair)


def test_gradient_reaches_the_model_through_the_prefix(vlm):
    trained = vlm_from_config(vlm.get_config()).train()
    read = trained.prefill(images(), TEXTS)
    trained.begin(read).hidden.square().sum().backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in trained.parameters()]
    assert sum(reached) > 0.6 * len(reached)


def test_gradient_checkpointing_gives_the_same_gradient(vlm):
    gradients = []
    for checkpointing in (False, True):
        trained = vlm_from_config(vlm.get_config()).train()
        trained.load_state_dict(vlm.state_dict())
        if checkpointing:
            trained.gradient_checkpointing_enable()
        torch.manual_seed(0)  # Of dropout.
        read = trained.prefill(images(), TEXTS)
        trained.extend(tokens(trained, 2), read).hidden.square().mean().backward()
        gradients.append({key: p.grad for key, p in trained.named_parameters()})
    for key, plain in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], plain, atol=1e-5, rtol=1e-3)


def test_every_tensor_is_made_on_the_device_of_the_images(vlm):
    if vlm.name in ("qwen2_5_vl", "qwen3_vl", "smolvlm"):
        pytest.skip("its vision tower reads numbers back from the device")
    # The device 'meta' computes shapes only, and refuses tensors of another device.
    elsewhere = vlm_from_config(vlm.get_config()).to("meta")
    read = elsewhere.prefill(images().to("meta"), TEXTS)
    hidden = elsewhere.predict_hidden(read, torch.zeros(2, 3, dtype=torch.int64, device="meta"))
    assert elsewhere.logits(hidden).device.type == "meta"


def test_configuration_is_json_and_rebuilds_equal_weights(vlm):
    rebuilt = vlm_from_config(json.loads(json.dumps(vlm.get_config())))
    assert rebuilt.get_config() == vlm.get_config()
    for key, value in vlm.state_dict().items():
        assert torch.equal(rebuilt.state_dict()[key], value)


def test_saved_model_gives_equal_features(vlm, prefix, tmp_path):
    vlm.save_pretrained(tmp_path)
    loaded = get_vlm(vlm.name, pretrained=tmp_path).eval()
    assert torch.equal(loaded.encode(images(), TEXTS).features, prefix.features)


def test_images_of_another_shape_are_refused(vlm):
    with pytest.raises(ShapeError, match=r"\[B, 3, H, W\].*got \[2, 1, 32, 32\]"):
        vlm.prefill(torch.zeros(2, 1, 32, 32), "red")


class EncoderOnly(AbstractVLM):
    name = "encoder-only"
    hidden_size = 4

    def encode(self, images, text):
        return VLMOutput(images, images, slice(0, 1), slice(1, 2))

    def get_config(self):
        return {"name": self.name}


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        ("prefill", lambda vlm: vlm.prefill(images(), "red")),
        ("prefill", lambda vlm: vlm.generate(images(), "red", 2)),
        ("extend", lambda vlm: vlm.extend(torch.zeros(1, 1, 4), None)),
        ("embed_tokens", lambda vlm: vlm.embed_tokens(torch.zeros(1, 1, dtype=torch.int64))),
        ("logits", lambda vlm: vlm.logits(torch.zeros(1, 1, 4))),
        ("action_token_ids", lambda vlm: vlm.action_token_ids(2)),
        ("attention_layout", lambda vlm: vlm.attention_layout),
    ],
)
def test_lacking_capability_is_named(capability, call):
    with pytest.raises(ConfigError, match=f"vlm 'encoder-only' has no {capability}; choose"):
        call(EncoderOnly())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)
