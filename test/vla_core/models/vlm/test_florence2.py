# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.vlm import get_vlm

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def vlm():
    return get_vlm("florence2", size="tiny").eval()


def images(batch=1, cameras=2):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, cameras, 3, 32, 32, generator=generator)


def test_features_are_those_of_transformers(vlm):
    mean, std = (torch.tensor(part)[:, None, None] for part in vlm.normalization)
    output = vlm.encode(images(), "lift it")
    text = vlm.tokenizer.encode(vlm.prompt.format(text="lift it"))
    num_images = output.image_span.stop
    ids = torch.tensor([[vlm.model_config.image_token_id] * num_images + text])
    native = vlm.model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=((images() - mean) / std)[0],
        decoder_input_ids=torch.tensor([[2]]),
    )
    expected = native.encoder_last_hidden_state[0]
    torch.testing.assert_close(output.features[output.mask], expected, atol=1e-5, rtol=1e-4)


def test_padding_of_other_rows_does_not_leak(vlm):
    pair = vlm.encode(images(batch=2), ["red", "a much longer instruction than the other"])
    alone = vlm.encode(images(batch=2)[:1], "red")
    valid = alone.mask[0]
    torch.testing.assert_close(
        pair.features[0, valid], alone.features[0, valid], atol=1e-5, rtol=1e-4
    )


def test_it_cannot_be_continued(vlm):
    with pytest.raises(ConfigError, match="vlm 'florence2' has no prefill"):
        vlm.generate(images(), "red", 2)
    with pytest.raises(ConfigError, match="vlm 'florence2' has no attention_layout"):
        _ = vlm.attention_layout
