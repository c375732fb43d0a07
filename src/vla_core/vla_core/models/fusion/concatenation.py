# SPDX-License-Identifier: MIT
"""Fusion by concatenation: every modality as one vector, then a layer over all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_core.models.fusion.base import AbstractFusion


class ConcatenationFusion(AbstractFusion):
    """Averages the tokens of each modality and mixes the averages with one hidden layer.

    Args:
        vision_dim: Width of the vision tokens.
        text_dim: Width of the text tokens.
        state_dim: Width of the encoded state; 0 if there is none.
        output_dim: Width of the result.
        dropout: Probability of dropping a hidden unit in training.
    """

    def __init__(
        self,
        vision_dim: int,
        text_dim: int,
        state_dim: int,
        output_dim: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(vision_dim, text_dim, state_dim, output_dim)
        self.layers = nn.Sequential(
            nn.Linear(vision_dim + text_dim + state_dim, output_dim),
            nn.LayerNorm(output_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(output_dim, output_dim),
        )

    def fuse(self, vision: Tensor, text: Tensor, state: Tensor | None) -> Tensor:
        """Fuse tokens and state to [B, output_dim]."""
        parts = [vision.mean(dim=1), text.mean(dim=1)]
        if state is not None:
            parts.append(state)
        return self.layers(torch.cat(parts, dim=-1))
