# SPDX-License-Identifier: MIT
"""Encodes a proprioceptive state by codes of a learned codebook."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_core.errors import ConfigError
from vla_core.models.encoders.base import AbstractStateEncoder
from vla_core.models.encoders.vq_state import VQStateTokenizer


class VQStateEncoder(AbstractStateEncoder):
    """The tokens of a `VQStateTokenizer`, one after the other, as one vector.

    Args:
        state_dim: Width of the state.
        output_dim: Width of the features; a multiple of `num_tokens`.
        num_codes: Size of the codebook.
        num_tokens: Codes per state.
        commitment_weight: Weight of the commitment loss within the state's loss.

    Raises:
        ConfigError: If a size is not possible.
    """

    def __init__(
        self,
        state_dim: int,
        output_dim: int,
        num_codes: int = 1024,
        num_tokens: int = 4,
        commitment_weight: float = 0.25,
    ) -> None:
        super().__init__(state_dim, output_dim)
        if num_tokens < 1 or output_dim % num_tokens:
            raise ConfigError(
                f"output_dim must be a multiple of num_tokens, got {output_dim} and {num_tokens}."
            )
        self.commitment_weight = commitment_weight
        self.tokenizer = VQStateTokenizer(
            state_dim, output_dim // num_tokens, num_codes, num_tokens
        )

    def forward(self, state: Tensor) -> Tensor:
        """Encode states [B, S] as features [B, output_dim]."""
        return self.encode(state)[0]

    def encode(
        self, state: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode states [B, S]; the loss is that of the VQ-VAE.

        Args:
            state: Normalised states, [B, S].
            generator: Chooses where dead codes move to; None for the global one.
        """
        quantized = self.tokenizer(state, generator)
        loss = quantized.reconstruction_loss + quantized.codebook_loss
        loss = loss + self.commitment_weight * quantized.commitment_loss
        return quantized.tokens.flatten(1), loss
