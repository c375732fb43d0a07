# SPDX-License-Identifier: MIT
"""Actions by a conditional variational auto-encoder (Sohn et al., 2015), as in ACT.

A chunk of demonstrated actions is summed up by a latent variable, which takes up the style of the
demonstrator, so that the decoder does not have to average over styles. At inference the latent is
zero, the mean of the prior, and the policy is deterministic (Zhao et al., 2023, arXiv:2304.13705).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from vla_core.models.action_heads.base import AbstractActionHead, masked_mean
from vla_core.models.action_heads.diffusion_schedule import draw_noise
from vla_core.models.action_heads.mlp import MLPActionHead
from vla_core.models.layers.detr import DETREncoderLayer
from vla_core.models.layers.positional import interleaved_embedding


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of a diagonal normal distribution from the standard one.

    Args:
        mean: [B, latent_dim].
        log_variance: [B, latent_dim].

    Returns:
        The sum over the dimensions, in nats, averaged over the batch; a scalar.
    """
    per_dimension = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
    return per_dimension.sum(dim=-1).mean()


def sample_latent(
    mean: Tensor, log_variance: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Draw from a diagonal normal distribution, differentiably (arXiv:1312.6114).

    Args:
        mean: [B, latent_dim].
        log_variance: [B, latent_dim].
        generator: Source of the noise; None for the global one.

    Returns:
        [B, latent_dim].
    """
    return mean + (0.5 * log_variance).exp() * draw_noise(mean, generator)


class ActionPosterior(nn.Module):
    """Sums up a chunk of actions, given a condition, as a normal distribution of the latent.

    A transformer over [CLS | condition | actions]; padded actions are not attended to.

    Args:
        action_dim: Width of one action.
        condition_dim: Width of the condition (the state, or features); 0 for none.
        chunk_size: Actions of a chunk.
        latent_dim: Width of the latent.
        hidden_dim: Width of the transformer.
        num_layers: Its layers.
        num_heads: Its attention heads.
        feedforward_dim: Hidden width of its MLPs.
        dropout: Its dropout.
        pre_norm: Whether it normalises before its parts.
        activation: Of its MLPs, `relu` or `gelu`.
    """

    def __init__(
        self,
        action_dim: int,
        condition_dim: int,
        chunk_size: int,
        latent_dim: int,
        hidden_dim: int,
        num_layers: int = 4,
        num_heads: int = 8,
        feedforward_dim: int = 3200,
        dropout: float = 0.1,
        pre_norm: bool = False,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(hidden_dim))
        self.condition_projection = nn.Linear(condition_dim, hidden_dim) if condition_dim else None
        self.action_projection = nn.Linear(action_dim, hidden_dim)
        self.layers = nn.ModuleList(
            DETREncoderLayer(hidden_dim, num_heads, feedforward_dim, dropout, pre_norm, activation)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_dim) if pre_norm else nn.Identity()
        self.output = nn.Linear(hidden_dim, 2 * latent_dim)
        length = 1 + bool(condition_dim) + chunk_size
        self.positions: Tensor
        self.register_buffer(
            "positions", interleaved_embedding(torch.arange(length), hidden_dim), persistent=False
        )

    def forward(
        self, actions: Tensor, condition: Tensor | None, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latent, [B, latent_dim] each.

        Args:
            actions: Normalised actions, [B, K, A].
            condition: [B, condition_dim]; None if it is not known.
            valid: Which steps count, bool [B, K, 1].
        """
        batch_size = len(actions)
        tokens = [self.cls.expand(batch_size, 1, -1)]
        padding = [valid.new_zeros(batch_size, 1)]
        if self.condition_projection is not None:
            known = condition is not None
            if condition is None:
                condition = actions.new_zeros(batch_size, self.condition_projection.in_features)
            tokens.append(self.condition_projection(condition).unsqueeze(1))
            padding.append(valid.new_full((batch_size, 1), not known))
        # Not attending to padding is not enough: 0 * inf in what is ignored would still be nan.
        tokens.append(self.action_projection(actions.masked_fill(~valid, 0.0)))
        padding.append(~valid.squeeze(-1))
        x, is_pad = torch.cat(tokens, dim=1), torch.cat(padding, dim=1)
        for layer in self.layers:
            x = layer(x, self.positions, is_pad)
        mean, log_variance = self.output(self.norm(x[:, 0])).float().chunk(2, dim=-1)
        return mean, log_variance


class CVAEActionHead(AbstractActionHead):
    """Regresses a chunk from features and a latent that sums up how it was demonstrated.

    Args:
        feature_dim: Width of the features.
        action_dim: Width of one action.
        chunk_size: Actions predicted at once.
        latent_dim: Width of the latent.
        kl_weight: Weight of the divergence from the prior in the loss.
        hidden_dim: Width of posterior and decoder; a multiple of `num_heads`.
        num_layers: Layers of the posterior.
        num_heads: Its attention heads.
        num_blocks: Residual blocks of the decoder.
        dropout: Dropout probability of both.

    Raises:
        ConfigError: If the sizes do not fit together.
    """

    def __init__(
        self,
        feature_dim: int,
        action_dim: int,
        chunk_size: int = 1,
        latent_dim: int = 32,
        kl_weight: float = 10.0,
        hidden_dim: int = 256,
        num_layers: int = 2,
        num_heads: int = 4,
        num_blocks: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(feature_dim, action_dim, chunk_size)
        self.latent_dim = latent_dim
        self.kl_weight = kl_weight
        self.posterior = ActionPosterior(
            action_dim,
            feature_dim,
            chunk_size,
            latent_dim,
            hidden_dim,
            num_layers,
            num_heads,
            feedforward_dim=4 * hidden_dim,
            dropout=dropout,
        )
        self.decoder = MLPActionHead(
            feature_dim + latent_dim,
            action_dim,
            chunk_size,
            hidden_dim,
            num_blocks,
            dropout=dropout,
        )

    def compute_loss(
        self,
        features: Tensor,
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Reconstruct the true actions from a latent drawn from their posterior.

        Args:
            features: [B, feature_dim].
            actions: Normalised actions, [B, K, A], or [B, A] if K is 1.
            action_is_pad: True where a step is padding, bool [B, K].
            generator: Source of the latent; None for the global one.

        Returns:
            `loss` = `reconstruction_loss` (L1) + kl_weight * `kl_loss`; scalars.

        Raises:
            ShapeError: If the actions or their padding do not fit.
        """
        chunk = self.as_chunk(actions, len(features)).float()
        valid = self.as_validity(action_is_pad, chunk)
        mean, log_variance = self.posterior(chunk, features, valid)
        latent = sample_latent(mean, log_variance, generator).to(features.dtype)
        predicted = self.decoder.regress(torch.cat([features, latent], dim=-1)).float()
        reconstruction = masked_mean(l1_loss(predicted, chunk, reduction="none"), valid)
        divergence = kl_divergence(mean, log_variance)
        return {
            "loss": reconstruction + self.kl_weight * divergence,
            "reconstruction_loss": reconstruction,
            "kl_loss": divergence,
        }

    @torch.no_grad()
    def predict_action(
        self,
        features: Tensor,
        generator: torch.Generator | None = None,
        sample_prior: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Predict actions from the latent zero, or from one drawn from the prior.

        Args:
            features: [B, feature_dim].
            generator: Source of the latent if it is drawn; None for the global one.
            sample_prior: Draw the latent.
            **kwargs: Refused.

        Returns:
            Normalised actions, float32 [B, K, A], or [B, A] if K is 1.
        """
        if kwargs:
            raise TypeError(f"predict_action has no keywords {sorted(kwargs)}.")
        latent = features.new_zeros(len(features), self.latent_dim)
        if sample_prior:
            latent = draw_noise(latent, generator)
        return self.decoder.predict_action(torch.cat([features, latent], dim=-1))
