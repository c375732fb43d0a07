# SPDX-License-Identifier: MIT
"""From pixels to a grid of features by matrix products alone, which is quick on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

STEM_STRIDE = 16


class PatchMergingStem(nn.Module):
    """Pixels [B, 3, H, W] to a grid of features [B, H/16, W/16, D].

    Patches of 4 x 4 pixels are merged 2 x 2 twice, as in a Swin transformer (Liu et al., 2021,
    arXiv:2103.14030) without its attention: every step is a matrix product. Each patch knows its
    place, because a manipulation policy must know where things are.

    Args:
        image_size: Height and width of the images, px; a multiple of 16.
        hidden_size: Width D of the features.
    """

    def __init__(self, image_size: int, hidden_size: int) -> None:
        super().__init__()
        side = image_size // 4
        self.patches = nn.Linear(3 * 16, 64)
        self.position = nn.Parameter(torch.randn(side, side, 64) * 0.02)
        self.norm = nn.LayerNorm(64)
        self.first = nn.Sequential(nn.Linear(64 * 4, 128), nn.GELU(), nn.LayerNorm(128))
        self.second = nn.Linear(128 * 4, hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pixels in [-1, 1], [B, 3, H, W], as [B, H/16, W/16, D]."""
        x = self.patches(_merge(pixels.permute(0, 2, 3, 1), 4)) + self.position
        x = self.norm(gelu(x))  # [B, H/4, W/4, 64]
        x = self.first(_merge(x, 2))  # [B, H/8, W/8, 128]
        return self.second(_merge(x, 2))


def _merge(x: Tensor, factor: int) -> Tensor:
    """Join squares of neighbours: [B, H, W, C] to [B, H/f, W/f, f f C]."""
    batch, height, width, channels = x.shape
    squares = x.view(batch, height // factor, factor, width // factor, factor, channels)
    return squares.transpose(2, 3).reshape(batch, height // factor, width // factor, -1)
