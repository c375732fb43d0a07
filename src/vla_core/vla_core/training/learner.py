# SPDX-License-Identifier: MIT
"""A model with all that changes its weights: optimiser, schedule, loss scale and average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from vla_core.errors import ConfigError
from vla_core.models.frameworks import AbstractVLA
from vla_core.training.lora import adapters_merged, add_adapters
from vla_core.training.optimizer import WeightAverage, build_optimizer, build_schedule
from vla_core.training.recipe import TrainRecipe


class Learner:
    """Changes the weights of a model, in one process or together with others.

    Args:
        model: Model on the device of the accelerator.
        recipe: Optimiser, precision and what saves memory.
        accelerator: The processes.

    Attributes:
        model: The model without the wrapper that distributes it.

    Raises:
        ConfigError: The processes are distributed in a way that the recipe does not fit.
    """

    def __init__(self, model: AbstractVLA, recipe: TrainRecipe, accelerator: Accelerator) -> None:
        self.model = model
        self._recipe = recipe
        self._accelerator = accelerator
        if recipe.unfreeze_step is not None:
            model.unfreeze_backbone()  # The optimiser knows the backbone from the beginning.
        if recipe.lora.rank:
            add_adapters(model, recipe.lora)
        if recipe.gradient_checkpointing:
            model.backbone.gradient_checkpointing_enable()
        optimizer = build_optimizer(model, recipe.optimizer, model.backbone)
        self._schedule = build_schedule(optimizer, recipe.optimizer, recipe.steps)
        self._average = WeightAverage(model, recipe.optimizer.ema_decay)
        self._trained = [p for p in model.parameters() if p.requires_grad]
        if recipe.unfreeze_step is not None:
            model.freeze_backbone()
        if recipe.compile:
            _compile_blocks(model)
        self._wrapped, self._optimizer = accelerator.prepare(model, optimizer)
        is_fp16 = recipe.precision == "fp16"
        self._scaler = torch.amp.GradScaler(accelerator.device.type, enabled=is_fp16)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step, outside the backbone."""
        return float(self._schedule.get_last_lr()[0])

    def train(self) -> None:
        """Put the model into training mode."""
        self._wrapped.train()

    def unfreeze_backbone(self) -> None:
        """Train the backbone from now on."""
        self.model.unfreeze_backbone()
        # Wrapped again, as the wrapper looks once for the gradients that it averages.
        self._wrapped = self._accelerator.prepare_model(self.model)

    def add_gradient(
        self, batch: Mapping[str, Any], share: float, *, is_last: bool
    ) -> dict[str, float]:
        """Add the gradient of a part of a batch.

        Args:
            batch: Keywords of ``forward``.
            share: Weight of the part in the loss of the whole batch, over all processes.
            is_last: Whether the step follows.

        Returns:
            The loss and its components, weighted by the share.
        """
        device = self._accelerator.device
        with nullcontext() if is_last else self._accelerator.no_sync(self._wrapped):
            with self._autocast():
                outputs = self._wrapped(**send_to_device(dict(batch), device))
            # Gradients are averaged over the processes, and the shares sum up to one.
            loss = outputs["loss"] * (share * self._accelerator.num_processes)
            self._scaler.scale(loss).backward()
        return {key: share * value.item() for key, value in outputs.items() if value.dim() == 0}

    def clip_gradient(self) -> float:
        """Clip the gradient and return the norm that it had."""
        self._scaler.unscale_(self._optimizer.optimizer)
        limit = self._recipe.optimizer.max_grad_norm
        return float(self._accelerator.clip_grad_norm_(self._trained, limit))

    @property
    def may_overflow(self) -> bool:
        """Whether a gradient that is not finite only means that fp16 has to be scaled less."""
        return self._scaler.is_enabled() and self._scaler.get_scale() > 1.0

    def step(self) -> None:
        """Change the weights by the gradient, and forget it."""
        scale = self._scaler.get_scale()
        self._scaler.step(self._optimizer.optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._scaler.get_scale() >= scale:  # Else fp16 overflowed, and the step was left out.
            self._schedule.step()
            self._average.update()

    @contextmanager
    def averaged(self) -> Iterator[AbstractVLA]:
        """Return the model with the averaged weights for the time of a ``with`` block."""
        with self._average.applied():
            yield self.model

    @contextmanager
    def as_policy(self) -> Iterator[AbstractVLA]:
        """Return the model as it is saved, averaged and without adapters, for a ``with`` block."""
        with self.averaged() as model:
            if not self._recipe.lora.rank:
                yield model
                return
            with adapters_merged(model):
                yield model

    def weights(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        return self.model.state_dict()

    def average(self) -> dict[str, Tensor]:
        """Return the averaged weights by name."""
        return self._average.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of optimiser, schedule and loss scale."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load(
        self, weights: dict[str, Tensor], average: dict[str, Tensor], state: Mapping[str, Any]
    ) -> None:
        """Restore what `weights`, `average` and `state_dict` returned."""
        self.model.load_state_dict(weights)
        self._average.load_state_dict(average)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state.get("scaler", {}))

    def _autocast(self) -> torch.autocast:
        dtype = torch.float16 if self._recipe.precision == "fp16" else torch.bfloat16
        enabled = self._recipe.precision != "fp32"
        return torch.autocast(self._accelerator.device.type, dtype, enabled=enabled)


def _compile_blocks(model: nn.Module) -> None:
    """Compile what a model repeats: quick, as one block stands for all that are like it.

    The whole model is not compiled: the instructions that it is given are text.

    Raises:
        ConfigError: The model repeats nothing.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for blocks in lists for block in blocks]
    if not blocks:
        raise ConfigError(
            f"compile is true, but {type(model).__name__} has no repeated blocks to compile; set "
            "compile=false."
        )
    for block in blocks:
        block.compile()
