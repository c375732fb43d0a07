# SPDX-License-Identifier: MIT
"""The noise schedule of a diffusion process, and the steps that walk it back.

With alpha_bar falling from about 1 to about 0, the noised sample at timestep t is
`sqrt(alpha_bar_t) sample + sqrt(1 - alpha_bar_t) noise` (DDPM, Ho et al., 2020, arXiv:2006.11239).
One step formula serves both samplers: DDIM with eta 0 is deterministic, eta 1 is DDPM
(Song et al., 2021, arXiv:2010.02502).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError
from vla_core.models.keywords import check_choice

SCHEDULES = ("squaredcos_cap_v2", "linear")


@dataclass(frozen=True, slots=True)
class SamplingStep:
    """One step from a timestep to the next lower one of the sampler, as plain coefficients.

    Attributes:
        timestep: Timestep that the step starts from.
        signal: Factor of the sample in the noised sample, sqrt(alpha_bar).
        noise: Factor of the noise, sqrt(1 - alpha_bar).
        keep: Factor of the noised sample in the next one.
        take: Factor of the predicted sample in the next one.
        sigma: Standard deviation of the fresh noise in the next one; 0 for DDIM.
    """

    timestep: int
    signal: float
    noise: float
    keep: float
    take: float
    sigma: float

    def sample_from_noise(self, noised: Tensor, noise: Tensor) -> Tensor:
        """Return the sample that became `noised` by this noise."""
        return (noised - self.noise * noise) / self.signal

    def advance(self, noised: Tensor, sample: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the noised sample of the next lower timestep."""
        following = self.keep * noised + self.take * sample
        if self.sigma:
            following = following + self.sigma * draw_noise(noised, generator)
        return following


class DiffusionSchedule(nn.Module):
    """Tables of the forward process, and sampling steps of the reverse one.

    Args:
        num_steps: Number of diffusion timesteps.
        schedule: `squaredcos_cap_v2` (Nichol and Dhariwal, 2021, arXiv:2102.09672) or `linear`.

    Raises:
        ConfigError: If the schedule is unknown or has no step.
    """

    def __init__(self, num_steps: int = 100, schedule: str = "squaredcos_cap_v2") -> None:
        super().__init__()
        check_choice("schedule", schedule, SCHEDULES)
        if num_steps < 1:
            raise ConfigError(f"diffusion_steps must be at least 1, got {num_steps}.")
        self.num_steps = num_steps
        alpha_bars = torch.cumprod(1.0 - _betas(num_steps, schedule), dim=0)
        self._alpha_bars: list[float] = alpha_bars.tolist()
        self.signal: Tensor
        self.noise: Tensor
        self.register_buffer("signal", alpha_bars.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1.0 - alpha_bars).sqrt().float(), persistent=False)

    @property
    def alpha_bars(self) -> list[float]:
        """Share of the sample's variance that is left at each timestep."""
        return list(self._alpha_bars)

    def add_noise(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noise samples [B, ...] to the timestep of each row, int64 [B]."""
        shape = (-1,) + (1,) * (sample.dim() - 1)
        return (
            self.signal[timesteps].view(shape) * sample + self.noise[timesteps].view(shape) * noise
        )

    def sampling_steps(
        self, num_steps: int, eta: float, skip_pure_noise: bool = False
    ) -> list[SamplingStep]:
        """Return evenly spaced steps down to the clean sample.

        Each starts from the last timestep of one of `num_steps` equal intervals, because sampling
        starts from pure noise (Lin et al., 2024, arXiv:2305.08891). But a predicted noise says
        nothing about the sample where there is nothing but noise: a model that predicts it should
        skip that and start from the middle of the intervals.

        Args:
            num_steps: Number of steps, 1 to the number of timesteps.
            eta: 0 for DDIM, 1 for DDPM.
            skip_pure_noise: Whether to step from the middle of the intervals.

        Raises:
            ConfigError: If there are too few or too many steps.
        """
        if not 1 <= num_steps <= self.num_steps:
            raise ConfigError(
                f"inference_steps must be 1 to {self.num_steps} (diffusion_steps), "
                f"got {num_steps}."
            )
        # Integers: the last timestep that is not above the interval's end, or its middle.
        halves = [2 * (num_steps - i) - skip_pure_noise for i in range(num_steps)]
        timesteps = [-(-self.num_steps * half // (2 * num_steps)) - 1 for half in halves]
        lower_bars = [self._alpha_bars[t] for t in timesteps[1:]] + [1.0]
        return [
            _sampling_step(timestep, self._alpha_bars[timestep], lower_bar, eta)
            for timestep, lower_bar in zip(timesteps, lower_bars, strict=True)
        ]


def draw_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw standard normal noise of a tensor's shape.

    It is drawn on the generator's own device, so that a CPU generator gives the same noise
    whatever device the model is on.
    """
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device).to(like.device)


def _sampling_step(timestep: int, alpha_bar: float, lower_bar: float, eta: float) -> SamplingStep:
    noise_variance = 1.0 - alpha_bar
    variance = eta**2 * (1.0 - lower_bar) / noise_variance * (1.0 - alpha_bar / lower_bar)
    keep = math.sqrt(max(1.0 - lower_bar - variance, 0.0) / noise_variance)
    return SamplingStep(
        timestep=timestep,
        signal=math.sqrt(alpha_bar),
        noise=math.sqrt(noise_variance),
        keep=keep,
        take=math.sqrt(lower_bar) - keep * math.sqrt(alpha_bar),
        sigma=math.sqrt(variance),
    )


def _betas(num_steps: int, schedule: str) -> Tensor:
    """Return the variance that each timestep adds, float64 [num_steps]."""
    if schedule == "linear":
        # The published range is for 1000 steps; fewer steps must add as much noise in total.
        scale = 1000 / num_steps
        return torch.linspace(
            min(1e-4 * scale, 0.999), min(0.02 * scale, 0.999), num_steps, dtype=torch.float64
        )
    times = torch.linspace(0.0, 1.0, num_steps + 1, dtype=torch.float64)
    alpha_bars = torch.cos((times + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1.0 - alpha_bars[1:] / alpha_bars[:-1]).clamp(max=0.999)
