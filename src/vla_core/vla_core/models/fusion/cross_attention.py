# SPDX-License-Identifier: MIT
"""Fusion by cross-attention: text and state ask, the images answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_core.models.fusion.base import AbstractFusion
from vla_core.models.layers.attention import MultiHeadAttention


class CrossAttentionFusion(AbstractFusion):
    """Lets each text token and the state attend to the vision tokens, then averages them.

    Args:
        vision_dim: Width of the vision tokens.
        text_dim: Width of the text tokens.
        state_dim: Width of the encoded state; 0 if there is none.
        output_dim: Width of the result.
        num_heads: Attention heads; must divide `output_dim`.
        dropout: Probability of dropping an attention weight in training.

    Raises:
        ConfigError: If `num_heads` does not divide `output_dim`.
    """

    def __init__(
        self,
        vision_dim: int,
        text_dim: int,
        state_dim: int,
        output_dim: int,
        num_heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(vision_dim, text_dim, state_dim, output_dim)
        self.text_query = nn.Linear(text_dim, output_dim)
        self.state_query = nn.Linear(state_dim, output_dim) if state_dim else None
        self.query_norm = nn.LayerNorm(output_dim)
        self.vision_norm = nn.LayerNorm(vision_dim)
        self.attention = MultiHeadAttention(output_dim, num_heads, vision_dim, dropout)
        self.mlp = nn.Sequential(
            nn.LayerNorm(output_dim),
            nn.Linear(output_dim, 4 * output_dim),
            nn.GELU(),
            nn.Linear(4 * output_dim, output_dim),
        )

    def fuse(self, vision: Tensor, text: Tensor, state: Tensor | None) -> Tensor:
        """Fuse tokens and state to [B, output_dim]."""
        x = self.text_query(text)  # [B, L, output_dim]
        if self.state_query is not None and state is not None:
            x = torch.cat([x, self.state_query(state).unsqueeze(1)], dim=1)
        x = x + self.attention(self.query_norm(x), self.vision_norm(vision))
        return (x + self.mlp(x)).mean(dim=1)
