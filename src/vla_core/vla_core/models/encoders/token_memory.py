# SPDX-License-Identifier: MIT
"""The tokens of a VLM, made ready to be attended to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_core.errors import ShapeError
from vla_core.models.layers.attention import TransformerBlock
from vla_core.models.vlm.base import VLMOutput


class TokenMemory(nn.Module):
    """Normalises and projects VLM tokens and lets those of all cameras attend to each other.

    GR00T N1.5 puts such a self-attention between the frozen VLM and its diffusion transformer.

    Args:
        vlm_dim: Width of the VLM's tokens.
        output_dim: Width of the result.
        num_blocks: Transformer blocks; 0 for the projection alone.
        num_heads: Attention heads; must divide `output_dim`.
        num_cameras: Cameras that have an embedding.
        dropout: Dropout probability of the blocks.
    """

    def __init__(
        self,
        vlm_dim: int,
        output_dim: int,
        num_blocks: int = 2,
        num_heads: int = 8,
        num_cameras: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_cameras = num_cameras
        self.norm = nn.LayerNorm(vlm_dim)
        self.projection = nn.Linear(vlm_dim, output_dim)
        self.camera_embedding = nn.Parameter(torch.randn(num_cameras, output_dim) * 0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(output_dim, num_heads, dropout=dropout) for _ in range(num_blocks)
        )

    def forward(self, output: VLMOutput) -> Tensor:
        """Return the tokens [B, L, output_dim]; those of padding hold nothing of use.

        Raises:
            ShapeError: If the output has more cameras than `num_cameras`.
        """
        if output.num_blocks > self.num_cameras:
            raise ShapeError(
                f"VLM features must have at most {self.num_cameras} cameras (num_cameras), "
                f"got {output.num_blocks}."
            )
        features = output.features.to(self.projection.weight.dtype)
        tokens = self.projection(self.norm(features))
        cameras = self.camera_embedding[: output.num_blocks]  # [N, H]
        length = tokens.shape[1] // output.num_blocks
        tokens = tokens + cameras.repeat_interleave(length, dim=0)
        for block in self.blocks:
            tokens = block(tokens, output.mask)
        return tokens
