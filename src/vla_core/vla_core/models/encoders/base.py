# SPDX-License-Identifier: MIT
"""The interface of a proprioceptive state encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vla_core.models.components import Component


class AbstractStateEncoder(Component, ABC):
    """Turns a normalised state vector into features.

    Attributes:
        state_dim: Width of the state.
        output_dim: Width of the features.
    """

    def __init__(self, state_dim: int, output_dim: int) -> None:
        super().__init__()
        self.state_dim = state_dim
        self.output_dim = output_dim

    @abstractmethod
    def forward(self, state: Tensor) -> Tensor:
        """Encode states [B, S] as features [B, output_dim]."""

    def encode(
        self, state: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode states, and say what learning the encoding itself adds to the loss.

        Args:
            state: Normalised states, [B, S].
            generator: Source of random draws; None for the global one.

        Returns:
            The features, [B, output_dim], and a scalar, or None if there is nothing to add.
        """
        return self(state), None
