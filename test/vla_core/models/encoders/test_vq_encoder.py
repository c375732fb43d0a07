# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.encoders import VQStateEncoder


def test_the_features_are_the_tokens_one_after_the_other():
    encoder, state = VQStateEncoder(5, 24, num_codes=8, num_tokens=3).eval(), torch.randn(2, 5)
    features, loss = encoder.encode(state)
    quantized = encoder.tokenizer(state)
    assert torch.equal(features, quantized.tokens.reshape(2, 24))
    assert torch.equal(encoder(state), features)
    parts = quantized.reconstruction_loss + quantized.codebook_loss
    torch.testing.assert_close(loss, parts + 0.25 * quantized.commitment_loss)


def test_a_width_that_the_tokens_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="multiple of num_tokens, got 25 and 4"):
        VQStateEncoder(5, 25)
