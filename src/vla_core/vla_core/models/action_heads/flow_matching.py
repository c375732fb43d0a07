# SPDX-License-Identifier: MIT
"""Actions by flow matching (Lipman et al., 2023, arXiv:2210.02747).

- The chunk moves as one flat vector along the velocity that a residual MLP predicts; features and
  time modulate each block by FiLM, as in the diffusion head.
- Training draws one time per row and never integrates.
- `flow_path` has the conventions of time of pi0 and of GR00T.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from vla_core.errors import ShapeError
from vla_core.models.action_heads.base import AbstractActionHead, masked_mean
from vla_core.models.action_heads.committed import CommittedActions
from vla_core.models.action_heads.denoiser import TIME_DIM, ResidualDenoiser
from vla_core.models.action_heads.diffusion_schedule import draw_noise
from vla_core.models.action_heads.flow_path import FlowPath, embed_flow_times


class FlowMatchingActionHead(AbstractActionHead):
    """Carries noise to a chunk of actions, given features.

    Args:
        feature_dim: Width of the features.
        action_dim: Width of one action.
        chunk_size: Actions predicted at once.
        hidden_dim: Width of the network.
        inference_steps: Euler steps of the integration.
        num_blocks: Residual blocks of the network.
        condition_dim: Width of the condition made of features and time; None for half of
            `hidden_dim`.
        convention: Direction of time, `pi0` or `gr00t`.
        clip_sample: Largest magnitude of a predicted action; None for no limit.
        dropout: Probability of dropping a hidden unit of the network in training.

    Raises:
        ConfigError: If a choice or a number of steps is not possible.
    """

    inpaints = True

    def __init__(
        self,
        feature_dim: int,
        action_dim: int,
        chunk_size: int = 1,
        hidden_dim: int = 512,
        inference_steps: int = 10,
        num_blocks: int = 3,
        condition_dim: int | None = None,
        convention: str = "pi0",
        clip_sample: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(feature_dim, action_dim, chunk_size)
        self.path = FlowPath(convention)
        self.path.times(inference_steps)
        self.inference_steps = inference_steps
        self.clip_sample = clip_sample
        self.denoiser = ResidualDenoiser(
            sample_dim=chunk_size * action_dim,
            feature_dim=feature_dim,
            condition_dim=condition_dim or hidden_dim // 2,
            hidden_dim=hidden_dim,
            num_blocks=num_blocks,
            dropout=dropout,
        )

    def compute_loss(
        self,
        features: Tensor,
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compare the predicted velocity at a random time with that of the path.

        Padded steps count neither as targets nor as inputs: their content changes nothing.

        Args:
            features: [B, feature_dim].
            actions: Normalised actions, [B, K, A], or [B, A] if K is 1.
            action_is_pad: True where a step is padding, bool [B, K].
            generator: Source of times and noise; None for the global one.

        Returns:
            `loss` and its one component `flow_loss`, scalars.

        Raises:
            ShapeError: If the actions or their padding do not fit.
        """
        chunk = self.as_chunk(actions, len(features)).float()
        valid = self.as_validity(action_is_pad, chunk)
        chunk = torch.where(valid, chunk, chunk.new_zeros(()))
        noise = draw_noise(chunk, generator)
        times = self.path.draw_times(len(chunk), chunk.device, generator)
        x = self.path.interpolate(chunk, noise, times)  # [B, K, A]

        modulations = self.denoiser.modulations(features, embed_flow_times(times, TIME_DIM))
        predicted = self.denoiser(x.flatten(1).to(features.dtype), modulations)
        error = mse_loss(
            predicted.view_as(chunk).float(), self.path.velocity(chunk, noise), reduction="none"
        )
        loss = masked_mean(error, valid)
        return {"loss": loss, "flow_loss": loss}

    @torch.no_grad()
    def predict_action(
        self,
        features: Tensor,
        generator: torch.Generator | None = None,
        inference_steps: int | None = None,
        noise: Tensor | None = None,
        committed: CommittedActions | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Integrate from noise to actions.

        Args:
            features: [B, feature_dim].
            generator: Source of the initial noise; None for the global one.
            inference_steps: Euler steps; None for the head's own.
            noise: Noise to start from, [B, K, A]; None to draw it.
            committed: Steps that are known already; None for none.
            **kwargs: Refused.

        Returns:
            Normalised actions, [B, K, A], or [B, A] if K is 1.

        Raises:
            ConfigError: If the number of steps is not possible.
            ShapeError: If the noise has another shape.
        """
        if kwargs:
            raise TypeError(f"predict_action has no keywords {sorted(kwargs)}.")
        num_steps = self.inference_steps if inference_steps is None else inference_steps
        shape = (len(features), self.chunk_size, self.action_dim)
        if noise is None:
            noise = draw_noise(features.new_empty(shape, dtype=torch.float32), generator)
        elif noise.shape != shape:
            raise ShapeError(f"noise must be {list(shape)}, got {list(noise.shape)}.")
        # The conditions of all steps are computed at once; the loop has only what depends on x.
        times = torch.tensor(self.path.times(num_steps), device=features.device)
        embedded = embed_flow_times(times, TIME_DIM).unsqueeze(1)  # [steps, 1, time]
        modulations = self.denoiser.modulations(features, embedded)  # each [steps, B, ...]

        def velocity(x: Tensor, index: int) -> Tensor:
            modulation = [block[index] for block in modulations]
            return self.denoiser(x.to(features.dtype), modulation).float()

        x = self.path.integrate(velocity, noise.flatten(1), num_steps, committed)
        if self.clip_sample is not None:
            x = x.clamp(-self.clip_sample, self.clip_sample)
        return self.from_chunk(x.view(shape))
