# SPDX-License-Identifier: MIT
"""Actions by denoising diffusion (Diffusion Policy, Chi et al., 2023, arXiv:2303.04137).

- The chunk is denoised as one flat vector by a residual MLP, as in Octo's diffusion head
  (arXiv:2405.12213); features and time modulate each block by FiLM.
- Training draws one timestep per row and never runs the sampler.
- The sampler clips each predicted sample to the range of normalised actions; DDIM with ten steps
  comes close to DDPM with all of them at a tenth of the time.
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
from vla_core.models.action_heads.diffusion_schedule import (
    DiffusionSchedule,
    SamplingStep,
    draw_noise,
)
from vla_core.models.keywords import check_choice
from vla_core.models.layers.positional import sinusoidal_embedding

PREDICTIONS = ("epsilon", "sample")
SAMPLERS = ("ddpm", "ddim")
_DDIM_STEPS = 10


class DDPMActionHead(AbstractActionHead):
    """Denoises a chunk of actions, given features.

    Args:
        feature_dim: Width of the features.
        action_dim: Width of one action.
        chunk_size: Actions predicted at once.
        hidden_dim: Width of the denoiser.
        diffusion_steps: Timesteps of the diffusion process.
        num_blocks: Residual blocks of the denoiser.
        condition_dim: Width of the condition made of features and time; None for half of
            `hidden_dim`.
        schedule: Noise schedule, `squaredcos_cap_v2` or `linear`.
        prediction: What the denoiser predicts, the noise (`epsilon`) or the `sample`.
        sampler: `ddpm` or `ddim`.
        inference_steps: Steps of the sampler; None for all of them with DDPM, 10 with DDIM.
        clip_sample: Largest magnitude of a normalised action; None for no limit.
        dropout: Probability of dropping a hidden unit of the denoiser in training.

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
        diffusion_steps: int = 100,
        num_blocks: int = 3,
        condition_dim: int | None = None,
        schedule: str = "squaredcos_cap_v2",
        prediction: str = "epsilon",
        sampler: str = "ddpm",
        inference_steps: int | None = None,
        clip_sample: float | None = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(feature_dim, action_dim, chunk_size)
        check_choice("prediction", prediction, PREDICTIONS)
        check_choice("sampler", sampler, SAMPLERS)
        self.prediction = prediction
        self.sampler = sampler
        self.clip_sample = clip_sample
        self.schedule = DiffusionSchedule(diffusion_steps, schedule)
        if inference_steps is None:
            inference_steps = (
                diffusion_steps if sampler == "ddpm" else min(_DDIM_STEPS, diffusion_steps)
            )
        self._steps = self._sampling_steps(inference_steps)
        self.denoiser = ResidualDenoiser(
            sample_dim=chunk_size * action_dim,
            feature_dim=feature_dim,
            condition_dim=condition_dim or hidden_dim // 2,
            hidden_dim=hidden_dim,
            num_blocks=num_blocks,
            dropout=dropout,
        )
        times = sinusoidal_embedding(torch.arange(diffusion_steps), TIME_DIM)
        self._times: Tensor
        self.register_buffer("_times", times, persistent=False)

    def compute_loss(
        self,
        features: Tensor,
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compare the denoiser's prediction at a random timestep with the truth.

        Padded steps count neither as targets nor as inputs: their content changes nothing.

        Args:
            features: [B, feature_dim].
            actions: Normalised actions, [B, K, A], or [B, A] if K is 1.
            action_is_pad: True where a step is padding, bool [B, K].
            generator: Source of timesteps and noise; None for the global one.

        Returns:
            `loss` and its one component `diffusion_loss`, scalars.

        Raises:
            ShapeError: If the actions or their padding do not fit.
        """
        chunk = self.as_chunk(actions, len(features)).float()
        valid = self.as_validity(action_is_pad, chunk)
        chunk = torch.where(valid, chunk, chunk.new_zeros(()))
        noise = draw_noise(chunk, generator)
        timesteps = self._draw_timesteps(len(chunk), generator).to(chunk.device)
        noised = self.schedule.add_noise(chunk, noise, timesteps)  # [B, K, A]

        modulations = self.denoiser.modulations(features, self._times[timesteps])
        predicted = (
            self.denoiser(noised.flatten(1).to(features.dtype), modulations).view_as(chunk).float()
        )
        target = noise if self.prediction == "epsilon" else chunk
        loss = masked_mean(mse_loss(predicted, target, reduction="none"), valid)
        return {"loss": loss, "diffusion_loss": loss}

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
        """Sample actions.

        Args:
            features: [B, feature_dim].
            generator: Source of all noise; None for the global one.
            inference_steps: Steps of the sampler; None for the head's own.
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
        steps = self._steps if inference_steps is None else self._sampling_steps(inference_steps)
        shape = (len(features), self.chunk_size, self.action_dim)
        if noise is None:
            noise = draw_noise(features.new_empty(shape, dtype=torch.float32), generator)
        elif noise.shape != shape:
            raise ShapeError(f"noise must be {list(shape)}, got {list(noise.shape)}.")
        # The conditions of all steps are computed at once; the loop has only what depends on x.
        times = self._times[[step.timestep for step in steps]].unsqueeze(1)  # [steps, 1, time]
        modulations = self.denoiser.modulations(features, times)  # each [steps, B, 2 * hidden]
        x = noise.flatten(1)
        start = x
        for index, step in enumerate(steps):
            modulation = [block[index] for block in modulations]

            def clean(
                x: Tensor, step: SamplingStep = step, modulation: list[Tensor] = modulation
            ) -> Tensor:
                predicted = self.denoiser(x.to(features.dtype), modulation).float()
                predicts_noise = self.prediction == "epsilon"
                return step.sample_from_noise(x, predicted) if predicts_noise else predicted

            if committed is None:
                predicted = clean(x)
            else:
                x = committed.inpaint(x, start, step.signal, step.noise)
                predicted = committed.estimate(clean, x, step.signal, step.noise)
            if self.clip_sample is not None:
                predicted = predicted.clamp(-self.clip_sample, self.clip_sample)
            x = step.advance(x, predicted, generator)
        return self.from_chunk(x.view(shape))

    def _sampling_steps(self, num_steps: int) -> list[SamplingStep]:
        return self.schedule.sampling_steps(
            num_steps,
            eta=1.0 if self.sampler == "ddpm" else 0.0,
            skip_pure_noise=self.prediction == "epsilon",
        )

    def _draw_timesteps(self, batch_size: int, generator: torch.Generator | None) -> Tensor:
        device = self._times.device if generator is None else generator.device
        return torch.randint(
            self.schedule.num_steps, (batch_size,), generator=generator, device=device
        )
