# SPDX-License-Identifier: MIT
"""Actions by regression: a residual MLP with an L1, L2 or Huber loss.

This is the head of OpenVLA-OFT (Kim et al., 2025, arXiv:2502.19645), where the L1 loss came close
to diffusion at one pass of the network per chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss, l1_loss, mse_loss

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads.base import AbstractActionHead, masked_mean
from vla_core.models.keywords import check_choice

LOSSES: dict[str, Callable[..., Tensor]] = {"l1": l1_loss, "mse": mse_loss, "huber": huber_loss}


class MLPActionHead(AbstractActionHead):
    """Regresses a chunk of actions from features.

    Args:
        feature_dim: Width of the features.
        action_dim: Width of one action.
        chunk_size: Actions predicted at once.
        hidden_dim: Width of the MLP.
        num_blocks: Residual blocks.
        loss: Name of the loss, `l1`, `mse` or `huber`.
        per_step: Read one feature vector per step, [B, K, feature_dim], instead of one per chunk.
        dropout: Probability of dropping a hidden unit in training.

    Raises:
        ConfigError: If the loss is unknown or a size is not possible.
    """

    def __init__(
        self,
        feature_dim: int,
        action_dim: int,
        chunk_size: int = 1,
        hidden_dim: int = 512,
        num_blocks: int = 2,
        loss: str = "l1",
        per_step: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(feature_dim, action_dim, chunk_size)
        check_choice("loss", loss, tuple(LOSSES))
        if num_blocks < 0:
            raise ConfigError(f"num_blocks must not be negative, got {num_blocks}.")
        self.loss = loss
        self.per_step = per_step
        self.reads_one_vector = not per_step
        self.input = nn.Sequential(
            nn.LayerNorm(feature_dim), nn.Linear(feature_dim, hidden_dim), nn.ReLU()
        )
        self.blocks = nn.ModuleList(_ResidualBlock(hidden_dim, dropout) for _ in range(num_blocks))
        output_dim = action_dim if per_step else chunk_size * action_dim
        self.output = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, output_dim))

    def regress(self, features: Tensor) -> Tensor:
        """Return actions with their gradient, [B, K, A] whatever K.

        Raises:
            ShapeError: If the features do not fit.
        """
        expected = [self.chunk_size, self.feature_dim] if self.per_step else [self.feature_dim]
        if list(features.shape[1:]) != expected:
            raise ShapeError(
                f"features must be {['B', *expected]} (batch, "
                f"{'chunk_size, ' if self.per_step else ''}feature_dim), "
                f"got {list(features.shape)}."
            )
        x = self.input(features)
        for block in self.blocks:
            x = block(x)
        return self.output(x).view(len(features), self.chunk_size, self.action_dim)

    def compute_loss(
        self,
        features: Tensor,
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compare the regressed actions with the true ones.

        Args:
            features: [B, feature_dim], or [B, K, feature_dim] if `per_step`.
            actions: Normalised actions, [B, K, A], or [B, A] if K is 1.
            action_is_pad: True where a step is padding, bool [B, K].
            generator: Not used; nothing is drawn.

        Returns:
            `loss` and its one component, named after the loss: `l1_loss`, `mse_loss` or
            `huber_loss`; scalars.

        Raises:
            ShapeError: If the features, the actions or their padding do not fit.
        """
        chunk = self.as_chunk(actions, len(features)).float()
        valid = self.as_validity(action_is_pad, chunk)
        errors = LOSSES[self.loss](self.regress(features).float(), chunk, reduction="none")
        loss = masked_mean(errors, valid)
        return {"loss": loss, f"{self.loss}_loss": loss}

    @torch.no_grad()
    def predict_action(
        self, features: Tensor, generator: torch.Generator | None = None, **kwargs: Any
    ) -> Tensor:
        """Predict actions without gradient.

        Args:
            features: [B, feature_dim], or [B, K, feature_dim] if `per_step`.
            generator: Not used; nothing is drawn.
            **kwargs: Refused.

        Returns:
            Normalised actions, float32 [B, K, A], or [B, A] if K is 1.
        """
        if kwargs:
            raise TypeError(f"predict_action has no keywords {sorted(kwargs)}.")
        return self.from_chunk(self.regress(features).float())


class _ResidualBlock(nn.Module):
    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)
