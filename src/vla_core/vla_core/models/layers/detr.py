# SPDX-License-Identifier: MIT
"""The transformer of DETR (Carion et al., 2020, arXiv:2005.12872).

Positions are added to queries and keys of every layer, never to values.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from vla_core.errors import ConfigError
from vla_core.models.keywords import check_choice

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu}


class DETREncoderLayer(nn.Module):
    """Self-attention and MLP.

    Args:
        dim: Width of the tokens.
        num_heads: Attention heads; must divide `dim`.
        feedforward_dim: Hidden width of the MLP.
        dropout: Acts on attention weights, hidden units and residuals.
        pre_norm: Normalise before each part instead of after its residual.
        activation: Of the MLP, `relu` or `gelu`.

    Raises:
        ConfigError: If the heads do not fit or the activation is unknown.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        feedforward_dim: int,
        dropout: float = 0.0,
        pre_norm: bool = False,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.self_attn = _attention(dim, num_heads, dropout)
        self.feedforward = _FeedForward(dim, feedforward_dim, dropout, activation)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def forward(self, x: Tensor, positions: Tensor, is_pad: Tensor | None = None) -> Tensor:
        """Transform tokens.

        Args:
            x: [B, L, dim].
            positions: [L, dim] or [B, L, dim].
            is_pad: True where a token must not be attended to, bool [B, L].

        Returns:
            [B, L, dim].
        """
        value = self.norm1(x) if self.pre_norm else x
        query = value + positions
        attended, _ = self.self_attn(
            query, query, value, key_padding_mask=is_pad, need_weights=False
        )
        x = x + self.dropout(attended)
        if self.pre_norm:
            return x + self.dropout(self.feedforward(self.norm2(x)))
        x = self.norm1(x)
        return self.norm2(x + self.dropout(self.feedforward(x)))


class DETRDecoderLayer(nn.Module):
    """Self-attention among queries, cross-attention to a memory, and MLP.

    Args:
        dim: Width of queries and memory.
        num_heads: Attention heads; must divide `dim`.
        feedforward_dim: Hidden width of the MLP.
        dropout: Acts on attention weights, hidden units and residuals.
        pre_norm: Normalise before each part instead of after its residual.
        activation: Of the MLP, `relu` or `gelu`.

    Raises:
        ConfigError: If the heads do not fit or the activation is unknown.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        feedforward_dim: int,
        dropout: float = 0.0,
        pre_norm: bool = False,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.self_attn = _attention(dim, num_heads, dropout)
        self.cross_attn = _attention(dim, num_heads, dropout)
        self.feedforward = _FeedForward(dim, feedforward_dim, dropout, activation)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def forward(
        self, x: Tensor, memory: Tensor, query_positions: Tensor, memory_positions: Tensor
    ) -> Tensor:
        """Transform queries.

        Args:
            x: [B, Q, dim].
            memory: [B, L, dim].
            query_positions: [Q, dim].
            memory_positions: [L, dim].

        Returns:
            [B, Q, dim].
        """
        value = self.norm1(x) if self.pre_norm else x
        query = value + query_positions
        attended, _ = self.self_attn(query, query, value, need_weights=False)
        x = x + self.dropout(attended)
        if not self.pre_norm:
            x = self.norm1(x)
        query = (self.norm2(x) if self.pre_norm else x) + query_positions
        attended, _ = self.cross_attn(query, memory + memory_positions, memory, need_weights=False)
        x = x + self.dropout(attended)
        if self.pre_norm:
            return x + self.dropout(self.feedforward(self.norm3(x)))
        x = self.norm2(x)
        return self.norm3(x + self.dropout(self.feedforward(x)))


class DETRTransformer(nn.Module):
    """Encodes tokens and decodes learned queries from them.

    Args:
        num_queries: Queries, which is how many vectors are decoded.
        dim: Width of tokens and queries.
        num_heads: Attention heads; must divide `dim`.
        feedforward_dim: Hidden width of the MLPs.
        num_encoder_layers: Layers of the encoder.
        num_decoder_layers: Layers of the decoder.
        dropout: Acts on attention weights, hidden units and residuals.
        pre_norm: Normalise before each part instead of after its residual.
        activation: Of the MLPs, `relu` or `gelu`.

    Raises:
        ConfigError: If the heads do not fit or the activation is unknown.
    """

    def __init__(
        self,
        num_queries: int,
        dim: int,
        num_heads: int,
        feedforward_dim: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        dropout: float = 0.0,
        pre_norm: bool = False,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        layer = (dim, num_heads, feedforward_dim, dropout, pre_norm, activation)
        self.encoder = nn.ModuleList(DETREncoderLayer(*layer) for _ in range(num_encoder_layers))
        self.encoder_norm = nn.LayerNorm(dim) if pre_norm else nn.Identity()
        self.queries = nn.Parameter(torch.randn(num_queries, dim))
        self.decoder = nn.ModuleList(DETRDecoderLayer(*layer) for _ in range(num_decoder_layers))
        self.decoder_norm = nn.LayerNorm(dim)
        for parameter in [*self.encoder.parameters(), *self.decoder.parameters()]:
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Decode the queries.

        Args:
            tokens: [B, L, dim].
            positions: [L, dim].

        Returns:
            [B, num_queries, dim].
        """
        memory = tokens
        for layer in self.encoder:
            memory = layer(memory, positions)
        memory = self.encoder_norm(memory)
        # The queries are positions; what they stand at is empty at first.
        x = memory.new_zeros(len(memory), *self.queries.shape)
        for layer in self.decoder:
            x = layer(x, memory, self.queries, positions)
        return self.decoder_norm(x)


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden_dim: int, dropout: float, activation: str) -> None:
        super().__init__()
        check_choice("activation", activation, tuple(ACTIVATIONS))
        self.activation = ACTIVATIONS[activation]
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


def _attention(dim: int, num_heads: int, dropout: float) -> nn.MultiheadAttention:
    if dim % num_heads:
        raise ConfigError(f"num_heads must divide the width {dim}, got {num_heads}.")
    return nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
