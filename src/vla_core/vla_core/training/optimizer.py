# SPDX-License-Identifier: MIT
"""AdamW, its schedule, and the exponential average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from vla_core.training.recipe_sections import OptimizerRecipe
from vla_core.training.sharding import divide


def build_optimizer(
    model: nn.Module, recipe: OptimizerRecipe, backbone: nn.Module | None = None
) -> AdamW:
    """Return AdamW over the trainable parameters, with weight decay on matrices alone.

    Args:
        model: Its frozen parameters are left out.
        recipe: Learning rates and weight decay.
        backbone: The part of the model that has `backbone_learning_rate`; None for none.
    """
    slow_rate = recipe.backbone_learning_rate
    slow = set() if slow_rate is None or backbone is None else set(map(id, backbone.parameters()))
    groups = []
    for rate, in_backbone in ((recipe.learning_rate, False), (slow_rate, True)):
        chosen = [
            parameter
            for parameter in model.parameters()
            if parameter.requires_grad and (id(parameter) in slow) == in_backbone
        ]
        for decay, is_matrix in ((recipe.weight_decay, True), (0.0, False)):
            parameters = [p for p in chosen if (p.dim() > 1) == is_matrix]
            groups.append({"params": parameters, "lr": rate, "weight_decay": decay})
    return AdamW([group for group in groups if group["params"]])


def build_schedule(optimizer: AdamW, recipe: OptimizerRecipe, steps: int) -> LambdaLR:
    """Return the schedule: linear from 0 to the peak, then as the recipe says.

    Args:
        optimizer: Its learning rates are the peaks.
        recipe: Gives the number of warm-up steps and the form after them.
        steps: Steps of the whole run.
    """

    def factor(step: int) -> float:
        if step < recipe.warmup_steps:
            return (step + 1) / recipe.warmup_steps
        if recipe.schedule == "constant":
            return 1.0
        if recipe.schedule == "rsqrt":
            peak = max(recipe.warmup_steps, 1)
            return math.sqrt(peak / max(step, peak))
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
            average.copy_(divide(state[name], average))

    @torch.no_grad()
    def _swap(self) -> None:
        # Copied, as distributed wrappers hold on to the storage of the weights.
        for weight, average in zip(self._weights, self._average, strict=True):
            present = weight.detach().clone()
            weight.copy_(average)
            average.copy_(present)
