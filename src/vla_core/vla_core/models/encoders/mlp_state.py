# SPDX-License-Identifier: MIT
"""A state encoder of fully connected layers."""

from __future__ import annotations

from torch import Tensor, nn

from vla_core.errors import ConfigError
from vla_core.models.encoders.base import AbstractStateEncoder


class MLPStateEncoder(AbstractStateEncoder):
    """Linear layers with SiLU between them.

    Args:
        state_dim: Width of the state.
        hidden_dim: Width of the hidden layers and of the features.
        num_layers: Number of linear layers.
        dropout: Probability of dropping a hidden unit in training.

    Raises:
        ConfigError: If there is no layer.
    """

    def __init__(
        self, state_dim: int, hidden_dim: int, num_layers: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__(state_dim, hidden_dim)
        if num_layers < 1:
            raise ConfigError(f"num_layers must be at least 1, got {num_layers}.")
        layers: list[nn.Module] = [nn.Linear(state_dim, hidden_dim)]
        for _ in range(num_layers - 1):
            layers += [nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden_dim, hidden_dim)]
        self.layers = nn.Sequential(*layers)

    def forward(self, state: Tensor) -> Tensor:
        """Encode states [B, S] as features [B, hidden_dim]."""
        return self.layers(state.to(next(self.parameters()).dtype))
