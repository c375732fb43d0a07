# SPDX-License-Identifier: MIT
"""The network of the diffusion and flow matching heads."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import silu

from vla_core.models.layers.film import modulate

TIME_DIM = 64


class ResidualDenoiser(nn.Module):
    """A residual MLP over flat chunks whose blocks are modulated by features and time.

    Args:
        sample_dim: Width of a flat chunk.
        feature_dim: Width of the features.
        condition_dim: Width of the condition made of features and time.
        hidden_dim: Width of the blocks.
        num_blocks: Number of blocks.
        dropout: Probability of dropping a hidden unit in training.
    """

    def __init__(
        self,
        sample_dim: int,
        feature_dim: int,
        condition_dim: int,
        hidden_dim: int,
        num_blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.feature_projection = nn.Linear(feature_dim, condition_dim)
        self.time_projection = nn.Sequential(
            nn.Linear(TIME_DIM, condition_dim), nn.SiLU(), nn.Linear(condition_dim, condition_dim)
        )
        self.input = nn.Linear(sample_dim, hidden_dim)
        self.modulation = nn.Linear(condition_dim, num_blocks * 2 * hidden_dim)
        self.blocks = nn.ModuleList(
            _ModulatedBlock(hidden_dim, dropout) for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, sample_dim)
        # Blocks start unmodulated (as FiLM does) and the first prediction is zero.
        for layer in (self.modulation, self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def modulations(self, features: Tensor, times: Tensor) -> tuple[Tensor, ...]:
        """Return what modulates each block, [..., B, 2 * hidden_dim].

        Args:
            features: [B, feature_dim].
            times: Embedded times, [..., B or 1, TIME_DIM].
        """
        condition = silu(self.feature_projection(features) + self.time_projection(times))
        return self.modulation(condition).chunk(len(self.blocks), dim=-1)

    def forward(self, x: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        """Denoise flat chunks [B, sample_dim]."""
        x = self.input(x)
        for block, modulation in zip(self.blocks, modulations, strict=True):
            x = block(x, modulation)
        return self.output(self.norm(x))


class _ModulatedBlock(nn.Module):
    def __init__(self, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_dim, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(hidden_dim, hidden_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
        )

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        return x + self.mlp(modulate(self.norm(x), modulation))
