# SPDX-License-Identifier: MIT
"""Fusion by gates: how much each modality counts is decided from all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_core.models.fusion.base import AbstractFusion


class GatedFusion(AbstractFusion):
    """Adds the modalities, each multiplied by a gate in (0, 1) per feature.

    The gated multimodal unit (Arevalo et al., 2017, arXiv:1702.01992): a gate sees every modality,
    so that the state can, for example, turn the images off while the gripper hides the object.

    Args:
        vision_dim: Width of the vision tokens.
        text_dim: Width of the text tokens.
        state_dim: Width of the encoded state; 0 if there is none.
        output_dim: Width of the result.
    """

    def __init__(self, vision_dim: int, text_dim: int, state_dim: int, output_dim: int) -> None:
        super().__init__(vision_dim, text_dim, state_dim, output_dim)
        dims = [dim for dim in (vision_dim, text_dim, state_dim) if dim]
        self.contents = nn.ModuleList(nn.Linear(dim, output_dim) for dim in dims)
        self.gates = nn.Linear(sum(dims), len(dims) * output_dim)

    def fuse(self, vision: Tensor, text: Tensor, state: Tensor | None) -> Tensor:
        """Fuse tokens and state to [B, output_dim]."""
        parts = [vision.mean(dim=1), text.mean(dim=1)]
        if state is not None:
            parts.append(state)
        gates = self.gates(torch.cat(parts, dim=-1)).sigmoid().chunk(len(parts), dim=-1)
        contents = [layer(part).tanh() for layer, part in zip(self.contents, parts, strict=True)]
        return torch.stack([g * c for g, c in zip(gates, contents, strict=True)]).sum(dim=0)
