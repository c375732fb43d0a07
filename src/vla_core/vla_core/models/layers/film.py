# SPDX-License-Identifier: MIT
"""Feature-wise linear modulation."""

from __future__ import annotations

from torch import Tensor, nn


class FiLM(nn.Module):
    """Scales and shifts features by a condition: x -> (1 + gamma) x + beta.

    It starts as the identity, so that a new condition does not disturb what is there
    (Perez et al., 2018, arXiv:1709.07871).

    Args:
        feature_dim: Width of what is modulated.
        condition_dim: Width of the condition.
    """

    def __init__(self, feature_dim: int, condition_dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(condition_dim, 2 * feature_dim)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Modulate x [..., feature_dim] by the condition [..., condition_dim]."""
        return modulate(x, self.projection(condition))


def modulate(x: Tensor, gamma_beta: Tensor) -> Tensor:
    """Apply (1 + gamma) x + beta, where gamma_beta [..., 2 * features] holds gamma, then beta."""
    gamma, beta = gamma_beta.chunk(2, dim=-1)
    return (1.0 + gamma) * x + beta
