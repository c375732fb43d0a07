# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ShapeError
from vla_core.models.vlm import get_vlm

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def vlm():
    model = get_vlm("florence2", size="tiny").eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # With its small weights a new decoder repeats the same token.
        for name, weight in model.language_model.decoder.named_parameters():
            if weight.dim() == 2 and not name.startswith("embed_tokens"):
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


def images(batch=1, cameras=2):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, cameras, 3, 32, 32, generator=generator)


def native_inputs(vlm, text):
    """Return what transformers takes for one row of `images()` and a text."""
    mean, std = (torch.tensor(part)[:, None, None] for part in vlm.normalization)
    num_images = vlm.encode(images(), text).image_span.stop
    ids = [vlm.model_config.image_token_id] * num_images
    ids = torch.tensor([ids + vlm.tokenizer.encode(vlm.prompt.format(text=text))])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": ((images() - mean) / std)[0],
    }


def test_features_are_those_of_transformers(vlm):
    output = vlm.encode(images(), "lift it")
    native = vlm.model(decoder_input_ids=torch.tensor([[2]]), **native_inputs(vlm, "lift it"))
    expected = native.encoder_last_hidden_state[0]
    torch.testing.assert_close(output.features[output.mask], expected, atol=1e-5, rtol=1e-4)


def test_padding_of_other_rows_does_not_leak(vlm):
    pair = vlm.encode(images(batch=2), ["red", "a much longer instruction than the other"])
    alone = vlm.encode(images(batch=2)[:1], "red")
    valid = alone.mask[0]
    torch.testing.assert_close(
        pair.features[0, valid], alone.features[0, valid], atol=1e-5, rtol=1e-4
    )


def test_logits_and_hidden_states_are_those_of_transformers(vlm):
    ids = torch.tensor([[0, 7, 300, 42]])
    start = torch.tensor([[vlm.model_config.text_config.decoder_start_token_id]])
    with torch.no_grad():
        native = vlm.model(
            decoder_input_ids=torch.cat([start, ids[:, :-1]], dim=1),
            output_hidden_states=True,
            **native_inputs(vlm, "lift it"),
        )
        hidden = vlm.predict_hidden(vlm.prefill(images(), "lift it"), ids)
    expected = native.decoder_hidden_states[-1]
    torch.testing.assert_close(hidden, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vlm.logits(hidden), native.logits, atol=1e-5, rtol=1e-4)


def test_greedy_generation_is_that_of_transformers(vlm):
    native = vlm.model.generate(
        max_new_tokens=6,
        min_new_tokens=6,
        do_sample=False,
        eos_token_id=None,
        forced_eos_token_id=None,
        pad_token_id=1,
        **native_inputs(vlm, "lift it"),
    )
    generated = vlm.generate(images(), "lift it", 6)
    assert torch.equal(generated, native[:, 1:])
    assert generated.unique().numel() > 2
    assert not torch.equal(vlm.generate(images(), "push", 6), generated)


def test_what_was_encoded_is_projected_once(vlm):
    prefix = vlm.prefill(images(), "lift it")
    calls = []
    hooks = [
        layer.encoder_attn.k_proj.register_forward_hook(lambda *call: calls.append(call))
        for layer in vlm.language_model.decoder.layers
    ]
    vlm.begin(vlm.begin(prefix).prefix)
    for hook in hooks:
        hook.remove()
    assert not calls


def test_the_decoder_counts_its_own_tokens(vlm):
    prefix = vlm.prefill(images(), "lift it")
    begun = vlm.begin(prefix).prefix
    assert begun.num_encoded == prefix.length == begun.length - 1
    assert begun.positions[0, -1] == 0
    assert begun.next_positions(2).tolist() == [[1, 2]]


def test_more_tokens_than_positions_are_refused(vlm):
    with pytest.raises(ShapeError, match=r"256 positions .* fewer cameras"):
        vlm.encode(images(cameras=20), "lift it")
    prefix = vlm.prefill(images(), "lift it")
    with pytest.raises(ShapeError, match="and 257 are needed"):
        vlm.extend(torch.zeros(1, 257, vlm.hidden_size), prefix)
