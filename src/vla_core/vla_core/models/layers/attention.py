# SPDX-License-Identifier: MIT
"""Multi-head attention with key masks, and a transformer block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vla_core.errors import ConfigError


class MultiHeadAttention(nn.Module):
    """Self- or cross-attention (Vaswani et al., 2017, arXiv:1706.03762).

    Args:
        dim: Width of the queries and of the result.
        num_heads: Number of heads; must divide `dim`.
        context_dim: Width of what is attended to; None for `dim`.
        dropout: Probability of dropping an attention weight in training.
    """

    def __init__(
        self, dim: int, num_heads: int, context_dim: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ConfigError(f"num_heads must divide dim ({dim}), got {num_heads}.")
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim if context_dim is None else context_dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attend from `x` to `context`.

        Args:
            x: Queries, [B, Q, dim].
            context: What is attended to, [B, L, context_dim].
            key_mask: True for positions of `context` that may be attended to, bool [B, L].

        Returns:
            [B, Q, dim].
        """
        mask = None if key_mask is None else key_mask[:, None, None, :]
        return self.attend(x, *self.keys_values(context), mask)

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [B, heads, L, dim/heads] of `context` [B, L, context_dim]."""
        key, value = self.key_value(context).chunk(2, -1)
        return self._split_heads(key), self._split_heads(value)

    def attend(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from `x` to keys and values that `keys_values` returned, now or earlier.

        Args:
            x: Queries, [B, Q, dim].
            key: [B, heads, L, dim/heads].
            value: [B, heads, L, dim/heads].
            mask: True where a query may attend, bool, broadcast to [B, heads, Q, L].

        Returns:
            [B, Q, dim].
        """
        query = self._split_heads(self.query(x))
        dropout = self.dropout if self.training else 0.0
        attended = scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [B, heads, L, dim/heads]


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and MLP, bidirectional over all valid tokens.

    Args:
        dim: Width of the tokens.
        num_heads: Number of heads; must divide `dim`.
        mlp_ratio: Hidden width of the MLP over `dim`.
        dropout: Acts on the attention weights and on both residuals.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float = 4.0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        hidden_dim = int(dim * mlp_ratio)
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, num_heads, dropout=dropout)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Transform tokens [B, L, dim]; `key_mask` is True where a token is valid, [B, L]."""
        mask = None if key_mask is None else key_mask[:, None, None, :]
        return self.extend(x, mask)[0]

    def extend(
        self, x: Tensor, mask: Tensor | None = None, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Transform tokens that come after others, whose keys and values are known.

        Args:
            x: The new tokens, [B, M, dim].
            mask: True where a new token may attend, bool, broadcast to [B, heads, M, L + M].
            past: Keys and values of the L tokens before, each [B, heads, L, dim/heads].

        Returns:
            The transformed tokens [B, M, dim], and keys and values of all L + M tokens.
        """
        normed = self.attention_norm(x)
        key, value = self.attention.keys_values(normed)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        x = x + self.dropout(self.attention.attend(normed, key, value, mask))
        return x + self.dropout(self.mlp(self.mlp_norm(x))), (key, value)
