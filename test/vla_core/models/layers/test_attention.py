# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.layers.attention import MultiHeadAttention, TransformerBlock


def test_attention_equals_the_formula():
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, num_heads=1, context_dim=6)
    x, context = torch.randn(2, 3, 8), torch.randn(2, 5, 6)
    key, value = attention.key_value(context).chunk(2, dim=-1)
    weights = (attention.query(x) @ key.transpose(1, 2) / 8**0.5).softmax(dim=-1)
    torch.testing.assert_close(attention(x, context), attention.out(weights @ value))


def test_masked_keys_have_no_influence():
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, num_heads=2)
    x, context = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    mask = torch.tensor([[True, True, False, True, False]])
    changed = context.clone()
    changed[~mask] = 100.0
    torch.testing.assert_close(attention(x, context, mask), attention(x, changed, mask))
    torch.testing.assert_close(attention(x, context, mask), attention(x, context[mask][None]))


def test_transformer_block_is_equivariant_to_the_order_of_tokens():
    torch.manual_seed(0)
    block = TransformerBlock(8, num_heads=2)
    x, order = torch.randn(1, 5, 8), torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match=r"divide dim \(10\), got 4"):
        MultiHeadAttention(10, num_heads=4)
