# SPDX-License-Identifier: MIT
"""The interface of an action head: from features to a loss, or to actions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from vla_core.errors import ShapeError
from vla_core.models.components import Component
from vla_core.models.keywords import check_sizes


class AbstractActionHead(Component, ABC):
    """Learns the actions that belong to a feature vector, and predicts them.

    Attributes:
        feature_dim: Width of the features.
        action_dim: Width of one action.
        chunk_size: Actions predicted at once.
        reads_one_vector: Whether one vector for the whole chunk, [B, feature_dim], is enough.
        inpaints: Whether `predict_action` takes `committed` steps and fits the others to them.
    """

    reads_one_vector: bool = True
    inpaints: ClassVar[bool] = False

    def __init__(self, feature_dim: int, action_dim: int, chunk_size: int = 1) -> None:
        super().__init__()
        check_sizes(action_dim=action_dim, chunk_size=chunk_size, feature_dim=feature_dim)
        self.feature_dim = feature_dim
        self.action_dim = action_dim
        self.chunk_size = chunk_size

    @abstractmethod
    def compute_loss(
        self,
        features: Tensor,
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compare with the true actions.

        Args:
            features: [B, feature_dim].
            actions: Normalised actions, [B, K, A], or [B, A] if K is 1.
            action_is_pad: True where a step is padding and must not count, bool [B, K].
            generator: Source of every random draw; None for the global one.

        Returns:
            `loss` and each of its components by name, scalars.

        Raises:
            ShapeError: If the actions or their padding do not fit.
        """

    @abstractmethod
    def predict_action(
        self, features: Tensor, generator: torch.Generator | None = None, **kwargs: Any
    ) -> Tensor:
        """Predict normalised actions, [B, K, A], or [B, A] if K is 1."""

    def forward(self, features: Tensor) -> Tensor:
        """Predict actions; see `predict_action`."""
        return self.predict_action(features)

    def as_chunk(self, actions: Tensor, batch_size: int) -> Tensor:
        """Return actions as [B, K, A]; see the function of this name."""
        return as_chunk(actions, batch_size, self.chunk_size, self.action_dim)

    def as_validity(self, action_is_pad: Tensor | None, actions: Tensor) -> Tensor:
        """Return which steps count, bool [B, K, 1]; see the function of this name."""
        return as_validity(action_is_pad, actions)

    def from_chunk(self, chunk: Tensor) -> Tensor:
        """Return [B, K, A] as it is, but [B, A] if the chunk size is 1."""
        return chunk.squeeze(1) if self.chunk_size == 1 else chunk


def as_chunk(actions: Tensor, batch_size: int, chunk_size: int, action_dim: int) -> Tensor:
    """Return actions as [B, K, A].

    Raises:
        ShapeError: If they do not fit the batch, the chunk or the action width.
    """
    expected = [batch_size, chunk_size, action_dim]
    if not isinstance(actions, Tensor):
        raise ShapeError(f"actions must be a tensor {expected}, got {type(actions).__name__}.")
    chunk = actions.unsqueeze(1) if actions.dim() == 2 else actions
    if list(chunk.shape) != expected:
        also = f" or {[batch_size, action_dim]}" if chunk_size == 1 else ""
        raise ShapeError(
            f"actions must be {expected}{also} (batch, chunk_size, action_dim), "
            f"got {list(actions.shape)}."
        )
    return chunk


def as_validity(action_is_pad: Tensor | None, actions: Tensor) -> Tensor:
    """Return which steps of the chunk [B, K, A] count, bool [B, K, 1].

    Raises:
        ShapeError: If the padding is not bool [B, K].
    """
    if action_is_pad is None:
        return torch.ones_like(actions[..., :1], dtype=torch.bool)
    if not isinstance(action_is_pad, Tensor):
        raise ShapeError(
            f"action_is_pad must be a bool tensor {list(actions.shape[:2])} (batch, chunk_size), "
            f"got {type(action_is_pad).__name__}."
        )
    if action_is_pad.shape != actions.shape[:2] or action_is_pad.dtype != torch.bool:
        raise ShapeError(
            f"action_is_pad must be bool {list(actions.shape[:2])} (batch, chunk_size), "
            f"got {action_is_pad.dtype} {list(action_is_pad.shape)}."
        )
    return ~action_is_pad.unsqueeze(-1)


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Average values [B, K, A] over the valid steps [B, K, 1]; zero if there is none."""
    kept = torch.where(valid, values, values.new_zeros(()))
    return kept.sum() / (valid.sum() * values.shape[-1]).clamp(min=1)
