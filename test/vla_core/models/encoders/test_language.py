# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.encoders.language import HashedWordEncoder


def make_encoder(**overrides):
    torch.manual_seed(0)
    return HashedWordEncoder(8, **{"max_words": 4, **overrides})


def test_words_are_counted_and_the_rest_is_padding():
    tokens, is_word = make_encoder()(["Lift the block", "", "one two three four five"])
    assert tokens.shape == (3, 4, 8)
    assert is_word.sum(-1).tolist() == [3, 0, 4]


def test_case_and_punctuation_do_not_matter_and_words_and_their_order_do():
    encoder = make_encoder()
    tokens, _ = encoder(["lift it", "Lift, it!", "it lift", "drop it"])
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.allclose(tokens[0], tokens[2])
    assert not torch.allclose(tokens[0], tokens[3])


@pytest.mark.parametrize("settings", [{"num_rows": 1}, {"max_words": 0}])
def test_impossible_sizes_are_refused(settings):
    with pytest.raises(ConfigError, match="num_rows must be at least 2 and max_words at least 1"):
        make_encoder(**settings)
