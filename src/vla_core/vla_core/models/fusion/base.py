# SPDX-License-Identifier: MIT
"""The interface of a fusion: from what was seen, said and felt to one feature vector."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.components import Component


class AbstractFusion(Component, ABC):
    """Joins vision, text and state into one vector.

    Attributes:
        vision_dim: Width of the vision tokens.
        text_dim: Width of the text tokens.
        state_dim: Width of the encoded state; 0 if there is none.
        output_dim: Width of the result.
    """

    def __init__(self, vision_dim: int, text_dim: int, state_dim: int, output_dim: int) -> None:
        super().__init__()
        if state_dim < 0:
            raise ConfigError(f"state_dim must be 0 (no state) or more, got {state_dim}.")
        self.vision_dim = vision_dim
        self.text_dim = text_dim
        self.state_dim = state_dim
        self.output_dim = output_dim

    def forward(self, vision: Tensor, text: Tensor, state: Tensor | None = None) -> Tensor:
        """Fuse the modalities.

        Args:
            vision: Tokens [B, L, vision_dim], or one vector per row, [B, vision_dim].
            text: Tokens [B, L, text_dim], or one vector per row, [B, text_dim].
            state: Encoded state, [B, state_dim]; None if `state_dim` is 0.

        Returns:
            [B, output_dim].

        Raises:
            ShapeError: If a width is not the one that the fusion was built for.
        """
        widths = [vision.shape[-1], text.shape[-1], 0 if state is None else state.shape[-1]]
        expected = [self.vision_dim, self.text_dim, self.state_dim]
        for name, width, wanted in zip(("vision", "text", "state"), widths, expected, strict=True):
            if width != wanted:
                raise ShapeError(
                    f"{name} must have width {wanted} ({name}_dim of {type(self).__name__}), "
                    f"got {width}."
                )
        return self.fuse(_as_tokens(vision), _as_tokens(text), state)

    @abstractmethod
    def fuse(self, vision: Tensor, text: Tensor, state: Tensor | None) -> Tensor:
        """Fuse tokens [B, L, vision_dim] and [B, L, text_dim] and a state to [B, output_dim]."""


def _as_tokens(features: Tensor) -> Tensor:
    return features.unsqueeze(1) if features.dim() == 2 else features
