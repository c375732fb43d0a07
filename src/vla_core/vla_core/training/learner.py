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
from vla_core.training.sharding import WholeCopy, divide, gather, repeated_blocks, reshard, shard


class Learner:
    """Changes the weights of a model, in one process or together with others.

    Args:
        model: Model on the device of the accelerator.
        recipe: Optimiser, precision and what saves memory.
        accelerator: The processes.

    Attributes:
        model: The model without the wrapper that distributes it; its weights may be divided among
            the processes.

    Raises:
        ConfigError: The model or PyTorch cannot do what the recipe asks for.
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
        self._copy = self._shard() if self._is_sharded else None
        optimizer = build_optimizer(model, recipe.optimizer, model.backbone)
        self._schedule = build_schedule(optimizer, recipe.optimizer, recipe.steps)
        self._average = WeightAverage(model, recipe.optimizer.ema_decay)
        self._trained = [p for p in model.parameters() if p.requires_grad]
        if recipe.unfreeze_step is not None:
            model.freeze_backbone()
        if recipe.compile:
            _compile_blocks(model)
        self._optimizer = accelerator.prepare_optimizer(optimizer)
        self._wrap()
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
        self._wrap()  # Again, as the wrapper looks once for the gradients that it averages.

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
        # Divided gradients are summed up at once: until the last part they would be whole.
        sums_up = is_last or self._is_sharded
        with nullcontext() if sums_up else self._accelerator.no_sync(self._wrapped):
            with self._autocast():
                outputs = self._wrapped(**send_to_device(dict(batch), device))
            # Gradients are averaged over the processes, and the shares sum up to one.
            loss = outputs["loss"] * (share * self._accelerator.num_processes)
            self._scaler.scale(loss).backward()
        if self._is_sharded:
            reshard(self.model)
        return {key: share * value.item() for key, value in outputs.items() if value.dim() == 0}

    def clip_gradient(self) -> float:
        """Clip the gradient and return the norm that it had."""
        self._scaler.unscale_(self._optimizer.optimizer)
        limit = self._recipe.optimizer.max_grad_norm
        norm = self._accelerator.clip_grad_norm_(self._trained, limit)
        return float(gather(norm))

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
    def averaged(self) -> Iterator[AbstractVLA | None]:
        """Return the model with the averaged weights for the time of a ``with`` block.

        All processes enter it together; the first has the model, the others None.
        """
        with self._average.applied():
            if self._copy is None:
                yield self.model if self._accelerator.is_main_process else None
                return
            with self._copy.filled(self.model, self._accelerator.device) as model:
                yield model

    @contextmanager
    def as_policy(self) -> Iterator[AbstractVLA | None]:
        """Return the model as it is saved, without adapters, as `averaged` does."""
        with self.averaged() as model:
            if model is None or not self._recipe.lora.rank:
                yield model
                return
            with adapters_merged(model):
                yield model

    def weights(self) -> dict[str, Tensor]:
        """Return the weights by name; as the others, all processes call it together."""
        return self._gather(self.model.state_dict())

    def average(self) -> dict[str, Tensor]:
        """Return the averaged weights by name."""
        return self._gather(self._average.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return the state of optimiser, schedule and loss scale."""
        return {
            "optimizer": self._gather(self._optimizer.state_dict()),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load(
        self, weights: dict[str, Tensor], average: dict[str, Tensor], state: Mapping[str, Any]
    ) -> None:
        """Restore what `weights`, `average` and `state_dict` returned in the first process."""
        own = self.model.state_dict()
        self.model.load_state_dict({k: divide(v, own.get(k, v)) for k, v in weights.items()})
        self._average.load_state_dict(average)
        self._optimizer.load_state_dict(self._divide_optimizer(state["optimizer"]))
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state.get("scaler", {}))

    @property
    def _is_sharded(self) -> bool:
        return self._recipe.shard_weights and self._accelerator.num_processes > 1

    def _shard(self) -> WholeCopy:
        self.model.cpu()  # A device need not hold more than its part, and one layer.
        whole = WholeCopy(self.model, keep=self._accelerator.is_main_process)
        shard(self.model, self._accelerator.device.type)
        return whole

    def _wrap(self) -> None:
        self._wrapped: nn.Module = self.model
        if not self._is_sharded:
            self._wrapped = self._accelerator.prepare_model(self.model)

    def _gather(self, state: dict[str, Any]) -> dict[str, Any]:
        whole: dict[str, Any] = gather(state, keep=self._accelerator.is_main_process)
        return whole

    def _divide_optimizer(self, state: Mapping[str, Any]) -> dict[str, Any]:
        groups = self._optimizer.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        # What has no dimension counts the steps.
        moments = {
            index: {k: divide(v, parameters[index]) if v.dim() else v for k, v in values.items()}
            for index, values in state["state"].items()
        }
        return {**state, "state": moments}

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
    blocks = repeated_blocks(model)
    if not blocks:
        raise ConfigError(
            f"compile is true, but {type(model).__name__} has no repeated blocks to compile; set "
            "compile=false."
        )
    for block in blocks:
        block.compile()
