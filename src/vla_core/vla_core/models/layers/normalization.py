# SPDX-License-Identifier: MIT
"""Normalisation with constants that travel with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AffineNormalization(nn.Module):
    """Maps x to (x - offset) / scale and back; the identity until constants are loaded.

    Args:
        *shape: Shape of the constants, which has to broadcast with the values.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.offset: Tensor
        self.scale: Tensor
        self.register_buffer("offset", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def normalize(self, x: Tensor) -> Tensor:
        """Return (x - offset) / scale."""
        return (x - self.offset) / self.scale

    def unnormalize(self, x: Tensor) -> Tensor:
        """Return x * scale + offset."""
        return x * self.scale + self.offset
