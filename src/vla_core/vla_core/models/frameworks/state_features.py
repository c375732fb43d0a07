# SPDX-License-Identifier: MIT
"""Features of the robot's state, also where it is not known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_core.models.encoders.mlp_state import MLPStateEncoder
from vla_core.models.frameworks.observations import check_proprioception


class StateFeatures(nn.Module):
    """Encodes the state by an MLP; a learned vector stands for a state that is not known.

    Args:
        state_dim: Width of the state.
        output_dim: Width of the features.
        dropout: Probability, in training, that a row's state is hidden.
    """

    def __init__(self, state_dim: int, output_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.encoder = MLPStateEncoder(state_dim, output_dim)
        self.missing = nn.Parameter(torch.zeros(output_dim))

    def forward(self, proprioception: Tensor | None, batch_size: int) -> Tensor:
        """Return the features [batch_size, output_dim] of states [B, S], or of None.

        Raises:
            ShapeError: If the state has another shape.
        """
        missing = self.missing.expand(batch_size, -1)
        if proprioception is None:
            return missing
        state = check_proprioception(proprioception, batch_size, self.encoder.state_dim)
        hidden = torch.zeros(batch_size, 1, dtype=torch.bool, device=missing.device)
        if self.training and self.dropout:
            hidden = torch.rand(batch_size, 1, device=missing.device) < self.dropout
        # Also without dropout: every parameter then gets a gradient in every step, which
        # distributed training asks for.
        return torch.where(hidden, missing, self.encoder(state))
