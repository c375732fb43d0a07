# SPDX-License-Identifier: MIT
"""Straight paths between noise and actions, and the steps that walk them.

Flow matching (Lipman et al., 2023, arXiv:2210.02747) learns the velocity along the path and
integrates it by Euler's method. Two published policies use the same path with opposite times:

| convention | at time t | velocity | noise at | training draws t = |
|---|---|---|---|---|
| `pi0` (arXiv:2410.24164) | t noise + (1 - t) actions | noise - actions | 1 | 0.001 + 0.999 b |
| `gr00t` (arXiv:2503.14734) | (1 - t) noise + t actions | actions - noise | 0 | 1 - b / 0.999 |

with b from Beta(1.5, 1): both see noisy actions more often than clean ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vla_core.errors import ConfigError
from vla_core.models.action_heads.committed import CommittedActions
from vla_core.models.keywords import check_choice

CONVENTIONS = ("pi0", "gr00t")
_BETA = 1.5
_SCALE = 0.999
_SHORTEST_PERIOD, _LONGEST_PERIOD = 4e-3, 4.0


class FlowPath:
    """A straight path with one of the published conventions of time.

    Args:
        convention: `pi0` or `gr00t`.

    Raises:
        ConfigError: If the convention is unknown.
    """

    def __init__(self, convention: str = "pi0") -> None:
        check_choice("convention", convention, CONVENTIONS)
        self.convention = convention
        self._noise_at_one = convention == "pi0"

    def draw_times(
        self, batch_size: int, device: torch.device, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw a time in [0, 1] for each row, float32 [B], on the generator's own device first."""
        source = device if generator is None else generator.device
        uniform = torch.rand(batch_size, generator=generator, device=source).to(device)
        beta = uniform ** (1.0 / _BETA)  # Inverse of the distribution function of Beta(a, 1).
        if self._noise_at_one:
            return _SCALE * beta + (1.0 - _SCALE)
        return ((_SCALE - beta) / _SCALE).clamp(min=0.0)

    def interpolate(self, actions: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return the points [B, ...] of the path at the time of each row, [B]."""
        noise_share = times if self._noise_at_one else 1.0 - times
        noise_share = noise_share.view(-1, *[1] * (actions.dim() - 1))
        return noise_share * noise + (1.0 - noise_share) * actions

    def velocity(self, actions: Tensor, noise: Tensor) -> Tensor:
        """Return the derivative of `interpolate` by time, the same at every time."""
        return noise - actions if self._noise_at_one else actions - noise

    def times(self, num_steps: int) -> list[float]:
        """Return the time at which each Euler step starts, noise first.

        Raises:
            ConfigError: If there is no step.
        """
        if num_steps < 1:
            raise ConfigError(f"number of flow steps must be at least 1, got {num_steps}.")
        times = [step / num_steps for step in range(num_steps)]
        return [1.0 - time for time in times] if self._noise_at_one else times

    def integrate(
        self,
        velocity: Callable[[Tensor, int], Tensor],
        noise: Tensor,
        num_steps: int,
        committed: CommittedActions | None = None,
    ) -> Tensor:
        """Walk from noise to actions.

        Args:
            velocity: The velocity at a point [B, ...], given the index of the step in `times`.
            noise: Where to start, [B, ...].
            num_steps: Number of equal Euler steps.
            committed: Steps that are known already; None for none.

        Raises:
            ConfigError: If there is no step.
        """
        direction = -1.0 if self._noise_at_one else 1.0
        x = noise
        for index, _ in enumerate(self.times(num_steps)):
            if committed is None:
                x = x + direction / num_steps * velocity(x, index)
                continue
            signal = index / num_steps
            level = 1.0 - signal
            x = committed.inpaint(x, noise, signal, level)

            def clean(x: Tensor, index: int = index, level: float = level) -> Tensor:
                return x + direction * level * velocity(x, index)

            x = x + (committed.estimate(clean, x, signal, level) - x) / (level * num_steps)
        return x


def embed_flow_times(times: Tensor, dim: int) -> Tensor:
    """Embed times in [0, 1] by sines and cosines with periods of 0.004 to 4, as pi0 does.

    Args:
        times: [...].
        dim: Width of the embedding, even.

    Returns:
        Values in [-1, 1], float32 [..., dim]: first the sines, then the cosines.

    Raises:
        ConfigError: If dim is odd.
    """
    if dim < 2 or dim % 2:
        raise ConfigError(f"dim of a time embedding must be even, got {dim}.")
    exponents = torch.linspace(0.0, 1.0, dim // 2, device=times.device)
    periods = _SHORTEST_PERIOD * (_LONGEST_PERIOD / _SHORTEST_PERIOD) ** exponents
    angles = times.float().unsqueeze(-1) * (2.0 * math.pi / periods)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
