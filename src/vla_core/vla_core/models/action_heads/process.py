# SPDX-License-Identifier: MIT
"""Diffusion and flow matching under one interface, for a network that serves either.

A process corrupts true actions for training and says what the network has to predict from them;
in inference it walks from noise to actions with the network's predictions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_core.models.action_heads.committed import CommittedActions
from vla_core.models.action_heads.denoiser import TIME_DIM
from vla_core.models.action_heads.diffusion_schedule import (
    DiffusionSchedule,
    SamplingStep,
    draw_noise,
)
from vla_core.models.action_heads.flow_path import FlowPath, embed_flow_times
from vla_core.models.keywords import check_choice
from vla_core.models.layers.positional import sinusoidal_embedding

PROCESSES = ("ddpm", "ddim", "flow")
PREDICTIONS = ("epsilon", "sample")
_DDIM_STEPS, _FLOW_STEPS = 10, 4

Predict = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class CorruptedActions:
    """Actions on their way to noise.

    Attributes:
        x: Noised actions, [B, K, A].
        times: Embedded time of each row, [B, TIME_DIM].
        target: What the network is to predict, [B, K, A].
    """

    x: Tensor
    times: Tensor
    target: Tensor


class Process(ABC):
    """A way between actions and noise.

    Attributes:
        inference_steps: Steps that `sample` takes by default.
    """

    inference_steps: int

    @abstractmethod
    def corrupt(self, actions: Tensor, generator: torch.Generator | None) -> CorruptedActions:
        """Noise actions [B, K, A] to a random time of each row."""

    @abstractmethod
    def sample(
        self,
        predict: Predict,
        noise: Tensor,
        num_steps: int | None = None,
        generator: torch.Generator | None = None,
        committed: CommittedActions | None = None,
    ) -> Tensor:
        """Walk from noise to actions.

        Args:
            predict: From noised actions [B, K, A] and embedded times [B, TIME_DIM] to what
                `CorruptedActions.target` is in training.
            noise: Where to start, [B, K, A].
            num_steps: Number of steps; None for `inference_steps`.
            generator: Source of the noise that is added on the way; None for the global one.
            committed: Steps that are known already; None for none.

        Raises:
            ConfigError: If the number of steps is not possible.
        """


class DiffusionProcess(Process):
    """Denoising diffusion with DDPM's or DDIM's sampler.

    Args:
        sampler: `ddpm` or `ddim`.
        diffusion_steps: Timesteps of the process.
        prediction: What is predicted, the noise (`epsilon`) or the `sample`.
        inference_steps: Steps of the sampler; None for all with DDPM, 10 with DDIM.
        clip_sample: Largest magnitude of a normalised action; None for no limit.

    Raises:
        ConfigError: If a choice or a number of steps is not possible.
    """

    def __init__(
        self,
        sampler: str = "ddpm",
        diffusion_steps: int = 100,
        prediction: str = "epsilon",
        inference_steps: int | None = None,
        clip_sample: float | None = 1.0,
    ) -> None:
        check_choice("sampler", sampler, ("ddpm", "ddim"))
        check_choice("prediction", prediction, PREDICTIONS)
        self.predicts_noise = prediction == "epsilon"
        self.clip_sample = clip_sample
        self.eta = 1.0 if sampler == "ddpm" else 0.0
        self.schedule = DiffusionSchedule(diffusion_steps)
        if inference_steps is None:
            all_steps = diffusion_steps if sampler == "ddpm" else _DDIM_STEPS
            inference_steps = min(all_steps, diffusion_steps)
        self.inference_steps = inference_steps
        self.schedule.sampling_steps(inference_steps, self.eta, self.predicts_noise)

    def corrupt(self, actions: Tensor, generator: torch.Generator | None) -> CorruptedActions:
        """Noise actions [B, K, A] to a random timestep of each row."""
        noise = draw_noise(actions, generator)
        device = actions.device if generator is None else generator.device
        timesteps = torch.randint(
            self.schedule.num_steps, (len(actions),), generator=generator, device=device
        ).to(actions.device)
        self.schedule.to(actions.device)
        x = self.schedule.add_noise(actions, noise, timesteps)
        target = noise if self.predicts_noise else actions
        return CorruptedActions(x, sinusoidal_embedding(timesteps, TIME_DIM), target)

    def sample(
        self,
        predict: Predict,
        noise: Tensor,
        num_steps: int | None = None,
        generator: torch.Generator | None = None,
        committed: CommittedActions | None = None,
    ) -> Tensor:
        """Denoise; see `Process.sample`."""
        steps = self.schedule.sampling_steps(
            self.inference_steps if num_steps is None else num_steps,
            self.eta,
            self.predicts_noise,
        )
        x = noise
        for step in steps:
            timestep = torch.full((len(x),), step.timestep, device=x.device)
            times = sinusoidal_embedding(timestep, TIME_DIM)

            def clean(x: Tensor, step: SamplingStep = step, times: Tensor = times) -> Tensor:
                predicted = predict(x, times)
                return step.sample_from_noise(x, predicted) if self.predicts_noise else predicted

            if committed is None:
                predicted = clean(x)
            else:
                x = committed.inpaint(x, noise, step.signal, step.noise)
                predicted = committed.estimate(clean, x, step.signal, step.noise)
            if self.clip_sample is not None:
                predicted = predicted.clamp(-self.clip_sample, self.clip_sample)
            x = step.advance(x, predicted, generator)
        return x


class FlowProcess(Process):
    """Flow matching on a straight path.

    Args:
        convention: Direction of time, `pi0` or `gr00t`.
        inference_steps: Euler steps; None for 4.
        clip_sample: Largest magnitude of a predicted action; None for no limit.

    Raises:
        ConfigError: If the convention or the number of steps is not possible.
    """

    def __init__(
        self,
        convention: str = "gr00t",
        inference_steps: int | None = None,
        clip_sample: float | None = None,
    ) -> None:
        self.path = FlowPath(convention)
        self.clip_sample = clip_sample
        self.inference_steps = _FLOW_STEPS if inference_steps is None else inference_steps
        self.path.times(self.inference_steps)

    def corrupt(self, actions: Tensor, generator: torch.Generator | None) -> CorruptedActions:
        """Move actions [B, K, A] to a random time of each row."""
        noise = draw_noise(actions, generator)
        times = self.path.draw_times(len(actions), actions.device, generator)
        return CorruptedActions(
            self.path.interpolate(actions, noise, times),
            embed_flow_times(times, TIME_DIM),
            self.path.velocity(actions, noise),
        )

    def sample(
        self,
        predict: Predict,
        noise: Tensor,
        num_steps: int | None = None,
        generator: torch.Generator | None = None,
        committed: CommittedActions | None = None,
    ) -> Tensor:
        """Integrate; see `Process.sample`."""
        num_steps = self.inference_steps if num_steps is None else num_steps
        times = torch.tensor(self.path.times(num_steps), device=noise.device)
        embedded = embed_flow_times(times, TIME_DIM)
        x = self.path.integrate(
            lambda x, index: predict(x, embedded[index].expand(len(x), -1)),
            noise,
            num_steps,
            committed,
        )
        return x if self.clip_sample is None else x.clamp(-self.clip_sample, self.clip_sample)


def make_process(
    name: str,
    diffusion_steps: int = 100,
    prediction: str = "epsilon",
    inference_steps: int | None = None,
    clip_sample: float | None = 1.0,
) -> Process:
    """Return a process by name.

    Args:
        name: `ddpm`, `ddim`, or `flow` with GR00T's convention of time.
        diffusion_steps: Timesteps of a diffusion; flow has none.
        prediction: What a diffusion predicts, the noise (`epsilon`) or the `sample`; flow
            predicts the velocity.
        inference_steps: Steps of the sampler; None for all with DDPM, 10 with DDIM, 4 with flow.
        clip_sample: Largest magnitude of a normalised action; None for no limit.

    Raises:
        ConfigError: If a choice or a number of steps is not possible.
    """
    check_choice("process", name, PROCESSES)
    if name == "flow":
        return FlowProcess("gr00t", inference_steps, clip_sample)
    return DiffusionProcess(name, diffusion_steps, prediction, inference_steps, clip_sample)
