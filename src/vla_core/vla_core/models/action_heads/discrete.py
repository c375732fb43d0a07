# SPDX-License-Identifier: MIT
"""Actions as classes: each dimension is cut into bins, and a model predicts which.

- Bins are uniform between the bounds of their dimension, as in RT-2 (Brohan et al., 2023,
  arXiv:2307.15818), and stand for their centres: an action inside the bounds comes back with an
  error of at most half a bin. The bounds may be quantiles of recorded actions, as in OpenVLA
  (Kim et al., 2024, arXiv:2406.09246), so that outliers do not stretch the bins.
- There are `num_bins` bins. OpenVLA's code takes 256 numbers for the edges: 255 of these bins.
- What lies outside the bounds is clipped, and a loss says how often: many clipped actions mean
  wrong bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads.base import AbstractActionHead, masked_mean
from vla_core.models.vlm.sampling import choose_tokens

Bounds = Sequence[Sequence[float]]

_ROUNDING_BINS = 1e-3  # So far outside the bounds is an action by rounding only.


class ActionBins(nn.Module):
    """Uniform bins per dimension of an action.

    Args:
        bounds: Lower and upper bound of each dimension, A pairs; see also `quantile_bounds`.
        num_bins: Bins of each dimension.

    Raises:
        ConfigError: If there are fewer than 2 bins, or the bounds of a dimension are not finite,
            not in order, or so close that float32 cannot tell the bins apart.
    """

    def __init__(self, bounds: Bounds, num_bins: int = 256) -> None:
        super().__init__()
        if num_bins < 2:
            raise ConfigError(f"num_bins must be at least 2, got {num_bins}.")
        self.num_bins = num_bins
        self.bounds = [_check_bounds(index, pair, num_bins) for index, pair in enumerate(bounds)]
        lower, upper = torch.tensor(self.bounds, dtype=torch.float64).T
        self.lower: Tensor
        self.bin_width: Tensor
        self.register_buffer("lower", lower.float(), persistent=False)
        self.register_buffer("bin_width", ((upper - lower) / num_bins).float(), persistent=False)

    def quantize(self, actions: Tensor) -> Tensor:
        """Return the bins of actions [..., A], clipped to the bounds, int64 [..., A]."""
        bins = self._places(actions).floor().nan_to_num(0.0)
        return bins.clamp(0, self.num_bins - 1).long()

    def dequantize(self, bins: Tensor) -> Tensor:
        """Return the centres of bins [..., A], float32 [..., A]."""
        return self.lower + (bins + 0.5) * self.bin_width

    def outside(self, actions: Tensor) -> Tensor:
        """Return which numbers `quantize` clips, not counting rounding errors, bool [..., A]."""
        places = self._places(actions)
        return ~((places >= -_ROUNDING_BINS) & (places <= self.num_bins + _ROUNDING_BINS))

    def _places(self, actions: Tensor) -> Tensor:
        """Measure actions from the lower bound in bins."""
        return (actions.float() - self.lower) / self.bin_width


class ActionTokenHead(AbstractActionHead):
    """Reads actions from scores of their bins, which a language model has predicted.

    It has no parameters. Its features are the scores (logits) of the bins of each number of the
    chunk, step by step: [B, chunk_size * action_dim, num_bins].

    Args:
        action_dim: Width of one action.
        chunk_size: Actions predicted at once.
        bounds: Lower and upper bound of each dimension; None for -1 and 1.
        num_bins: Bins of each dimension.

    Raises:
        ConfigError: If the bounds do not fit.
    """

    reads_one_vector = False

    def __init__(
        self,
        action_dim: int,
        chunk_size: int = 1,
        bounds: Bounds | None = None,
        num_bins: int = 256,
    ) -> None:
        super().__init__(num_bins, action_dim, chunk_size)
        bounds = [(-1.0, 1.0)] * action_dim if bounds is None else bounds
        if len(bounds) != action_dim:
            raise ConfigError(
                f"action bounds must be {action_dim} pairs (action_dim), got {len(bounds)}."
            )
        self.bins = ActionBins(bounds, num_bins)

    def logits(self, features: Tensor) -> Tensor:
        """Return the scores of the bins, [B, K, A, num_bins].

        Raises:
            ShapeError: If the features do not fit.
        """
        length, num_bins = self.chunk_size * self.action_dim, self.bins.num_bins
        if list(features.shape[1:]) != [length, num_bins]:
            raise ShapeError(
                f"logits must be ['B', {length}, {num_bins}] (batch, chunk_size * action_dim, "
                f"num_bins), got {list(features.shape)}."
            )
        return features.view(-1, self.chunk_size, self.action_dim, num_bins)

    def compute_loss(
        self,
        features: Tensor,
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compare the scores with the bins of the true actions by cross-entropy.

        Args:
            features: As the head reads them.
            actions: Normalised actions, [B, K, A], or [B, A] if K is 1.
            action_is_pad: True where a step is padding, bool [B, K].
            generator: Not used; nothing is drawn.

        Returns:
            `loss` and its one component `token_loss`; beside them `token_accuracy`, how often the
            true bin has the best score, and `clipped_actions`, how many numbers of valid steps
            lay outside the bounds. Scalars.

        Raises:
            ShapeError: If the features, the actions or their padding do not fit.
        """
        logits = self.logits(features).float()
        chunk = self.as_chunk(actions, len(logits)).float()
        valid = self.as_validity(action_is_pad, chunk)
        targets = self.bins.quantize(chunk)
        losses = cross_entropy(logits.movedim(-1, 1), targets, reduction="none")  # [B, K, A]
        loss = masked_mean(losses, valid)
        return {
            "loss": loss,
            "token_loss": loss,
            "token_accuracy": masked_mean((logits.argmax(-1) == targets).float(), valid),
            "clipped_actions": (self.bins.outside(chunk) & valid).sum(),
        }

    @torch.no_grad()
    def predict_action(
        self,
        features: Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Choose a bin for each number, independently, and return their centres.

        Args:
            features: As the head reads them.
            generator: Where sampling draws from.
            temperature: 0 takes the likeliest bin; 1 samples as the scores say.
            top_k: Sample among the k likeliest only.
            **kwargs: Refused.

        Returns:
            Normalised actions, float32 [B, K, A], or [B, A] if K is 1.

        Raises:
            ConfigError: If temperature or top_k is out of range.
            ShapeError: If the features do not fit.
        """
        if kwargs:
            raise TypeError(f"predict_action has no keywords {sorted(kwargs)}.")
        logits = self.logits(features)
        chosen = choose_tokens(logits.flatten(0, 2), temperature, top_k, generator=generator)
        return self.from_chunk(self.bins.dequantize(chosen.view(logits.shape[:-1])))


class DiscreteActionHead(ActionTokenHead):
    """Classifies the bins of all numbers of a chunk at once, from one feature vector.

    Args:
        feature_dim: Width of the features.
        action_dim: Width of one action.
        chunk_size: Actions predicted at once.
        hidden_dim: Width of the MLP.
        bounds: Lower and upper bound of each dimension; None for -1 and 1.
        num_bins: Bins of each dimension.

    Raises:
        ConfigError: If the bounds do not fit.
    """

    reads_one_vector = True

    def __init__(
        self,
        feature_dim: int,
        action_dim: int,
        chunk_size: int = 1,
        hidden_dim: int = 512,
        bounds: Bounds | None = None,
        num_bins: int = 256,
    ) -> None:
        super().__init__(action_dim, chunk_size, bounds, num_bins)
        self.feature_dim = feature_dim
        self.layers = nn.Sequential(
            nn.LayerNorm(feature_dim),
            nn.Linear(feature_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, chunk_size * action_dim * num_bins),
        )

    def logits(self, features: Tensor) -> Tensor:
        """Return the scores of the bins, [B, K, A, num_bins], for features [B, feature_dim].

        Raises:
            ShapeError: If the features do not fit.
        """
        if list(features.shape[1:]) != [self.feature_dim]:
            raise ShapeError(
                f"features must be ['B', {self.feature_dim}] (batch, feature_dim), "
                f"got {list(features.shape)}."
            )
        return super().logits(self.layers(features).unflatten(-1, (-1, self.bins.num_bins)))


def quantile_bounds(
    actions: Tensor, low: float = 0.01, high: float = 0.99
) -> list[tuple[float, float]]:
    """Return bounds that leave out the rarest actions, one pair per dimension.

    A dimension that does not move gets narrow bounds around its constant.

    Args:
        actions: Recorded actions, normalised as the model will see them, [..., A].
        low: Quantile of the lower bounds.
        high: Quantile of the upper bounds.
    """
    values = actions.flatten(0, -2).double()
    lower, upper = torch.quantile(values, torch.tensor([low, high], dtype=torch.float64), dim=0)
    middle = (lower + upper) / 2
    half = ((upper - lower) / 2).clamp(min=1e-2 * middle.abs().clamp(min=1.0))
    return list(zip((middle - half).tolist(), (middle + half).tolist(), strict=True))


def _check_bounds(dimension: int, pair: Sequence[float], num_bins: int) -> list[float]:
    if len(pair) != 2 or not all(map(math.isfinite, pair)) or not pair[0] < pair[1]:
        raise ConfigError(
            f"action bounds of dimension {dimension} must be a lower and a higher finite number, "
            f"got {tuple(pair)}."
        )
    lower, upper = map(float, pair)
    finest = 8 * torch.finfo(torch.float32).eps * max(abs(lower), abs(upper))
    if (upper - lower) / num_bins < finest:
        raise ConfigError(
            f"action bounds of dimension {dimension} {(lower, upper)} are too close for "
            f"{num_bins} bins in float32; widen them or normalise the actions."
        )
    return [lower, upper]
