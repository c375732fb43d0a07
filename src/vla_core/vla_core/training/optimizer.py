# SPDX-License-Identifier: MIT
"""AdamW with warm-up and cosine, and the exponential average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from vla_core.training.recipe import OptimizerRecipe


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> AdamW:
    """Return AdamW over the trainable parameters, with weight decay on matrices alone.

    Args:
        model: Its frozen parameters are left out.
        recipe: Learning rate and weight decay.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in trainable if parameter.dim() > 1],
            "weight_decay": recipe.weight_decay,
        },
        {
            "params": [parameter for parameter in trainable if parameter.dim() <= 1],
            "weight_decay": 0.0,
        },
    ]
    return AdamW(groups, lr=recipe.learning_rate)


def build_schedule(optimizer: AdamW, recipe: OptimizerRecipe, steps: int) -> LambdaLR:
    """Return the schedule: linear from 0 to the peak, then half a cosine down to 0.

    Args:
        optimizer: Its learning rate is the peak.
        recipe: Gives the number of warm-up steps.
        steps: Steps of the whole run.
    """

    def factor(step: int) -> float:
        if step < recipe.warmup_steps:
            return (step + 1) / recipe.warmup_steps
        progress = (step - recipe.warmup_steps) / max(steps - recipe.warmup_steps, 1)
        return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

    return LambdaLR(optimizer, factor)


class WeightAverage:
    """Exponential moving average of the trainable weights, which becomes the policy.

    The decay rises from 0.1 to its final value, so that the average forgets the random weights of
    the start (as in Diffusion Policy, Chi et al. 2023).

    Args:
        model: The weights to follow.
        decay: Final decay, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._num_updates = 0
        self._names = [name for name, p in model.named_parameters() if p.requires_grad]
        self._weights: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._average = [p.detach().clone() for p in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        torch._foreach_lerp_(self._average, self._weights, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the model for the time of a ``with`` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average by parameter name, and the number of updates."""
        tensors = dict(zip(self._names, self._average, strict=True))
        return tensors | {"num_updates": torch.tensor(self._num_updates)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned."""
        self._num_updates = int(state["num_updates"])
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(state[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for index, weight in enumerate(self._weights):
            weight.data, self._average[index] = self._average[index], weight.data
