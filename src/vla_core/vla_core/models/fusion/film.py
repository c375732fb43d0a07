# SPDX-License-Identifier: MIT
"""Fusion by feature-wise modulation: text and state say which features of the images count."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from vla_core.models.fusion.base import AbstractFusion
from vla_core.models.layers.film import FiLM


class FiLMFusion(AbstractFusion):
    """Scales and shifts each vision token by text and state, then averages the tokens.

    This is FiLM (Perez et al., 2018, arXiv:1709.07871), with which RT-1 put its instruction into
    its vision. It starts as the identity: at first the images alone decide.

    Args:
        vision_dim: Width of the vision tokens.
        text_dim: Width of the text tokens.
        state_dim: Width of the encoded state; 0 if there is none.
        output_dim: Width of the result.
    """

    def __init__(self, vision_dim: int, text_dim: int, state_dim: int, output_dim: int) -> None:
        super().__init__(vision_dim, text_dim, state_dim, output_dim)
        self.norm = nn.LayerNorm(vision_dim, elementwise_affine=False)
        self.film = FiLM(vision_dim, text_dim + state_dim)
        self.hidden = nn.Linear(vision_dim, output_dim)
        self.output = nn.Linear(output_dim, output_dim)

    def fuse(self, vision: Tensor, text: Tensor, state: Tensor | None) -> Tensor:
        """Fuse tokens and state to [B, output_dim]."""
        condition = text.mean(dim=1)
        if state is not None:
            condition = torch.cat([condition, state], dim=-1)
        modulated = self.film(self.norm(vision), condition.unsqueeze(1))  # [B, L, vision_dim]
        return self.output(silu(self.hidden(modulated)).mean(dim=1))
