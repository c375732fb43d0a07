# SPDX-License-Identifier: MIT
"""The training loop, on Hugging Face accelerate.

A step draws frames, takes their features or images and their chunks of actions from memory, and
updates the weights and their average. What a run leaves behind is written by `RunFolder`.
"""

from __future__ import annotations

import math
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from vla_core.dataset.reader import EpisodeDataset
from vla_core.errors import ConfigError, TrainingError
from vla_core.models.frameworks import AbstractVLA
from vla_core.processing.contract import load_contract
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.training.batches import BatchSampler
from vla_core.training.checkpoint import TrainingState, random_state, restore_random_state
from vla_core.training.frame_inputs import FrameInputs, cache_features, store_images
from vla_core.training.model import build_model
from vla_core.training.open_loop import open_loop_error
from vla_core.training.optimizer import WeightAverage, build_optimizer, build_schedule
from vla_core.training.plan_ages import plan_ages_of
from vla_core.training.progress import ProgressDisplay
from vla_core.training.recipe import TrainRecipe
from vla_core.training.run_folder import RunFolder, describe_dataset, describe_versions
from vla_core.training.training_data import load_training_data, require_fit

_RECENT = 0.01


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        step: Steps that were trained.
        is_complete: False if it was interrupted.
        seconds: Time of all its parts, without the preparation of the data.
        loss: Smoothed loss at the end.
        validation: The last open-loop error, or None.
    """

    step: int
    is_complete: bool
    seconds: float
    loss: float
    validation: dict[str, Any] | None


class Trainer:
    """Trains one model on one dataset.

    Args:
        recipe: What to do.
        folder: Where to leave it.
        console: Where to show it.

    Raises:
        ConfigError: The recipe contradicts itself, the contract or the model.
        DatasetError: The dataset is damaged or does not fit the contract.
    """

    def __init__(self, recipe: TrainRecipe, folder: RunFolder, console: Console) -> None:
        self.recipe = recipe
        self.folder = folder
        self._console = console
        torch.set_num_threads(recipe.num_threads)
        _seed_everything(recipe.seed)
        contract = load_contract(recipe.contract)
        model = build_model(recipe, contract)
        self._dataset = EpisodeDataset(recipe.dataset)
        require_fit(self._dataset, contract)
        self._pipeline = ProcessingPipeline(
            contract,
            self._dataset.statistics("observation.state"),
            self._dataset.statistics("action"),
            image_size=recipe.image_size,
            chunk_size=model.chunk_length,
            normalization=recipe.normalization,
        )
        self._data = load_training_data(
            self._dataset, self._pipeline, recipe.validation.fraction, recipe.seed
        )
        self._sampler = BatchSampler(self._data.train_frames, recipe.batch_size, recipe.seed)
        self._inputs = self._prepare_inputs(model)
        self._plan_ages = plan_ages_of(model, self._inputs, self._dataset.episode_lengths)
        self._accelerator = Accelerator(cpu=True)
        optimizer = build_optimizer(model, recipe.optimizer)
        self._schedule = build_schedule(optimizer, recipe.optimizer, recipe.steps)
        self._model, self._optimizer = self._accelerator.prepare(model, optimizer)
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._average = WeightAverage(model, recipe.optimizer.ema_decay)
        self._step = 0
        self._seconds = 0.0
        self._loss = math.nan
        self._best_error = math.inf
        self._validation: dict[str, Any] | None = None
        self._saved_step = -1

    @property
    def step(self) -> int:
        """Steps that were trained so far."""
        return self._step

    def resume(self) -> bool:
        """Go back to the last checkpoint.

        Returns:
            False if there is none, so that training begins at the beginning.

        Raises:
            ConfigError: The checkpoint was made by another recipe.
            CheckpointError: The checkpoint is damaged.
        """
        path = self.folder.checkpoints.latest()
        if path is None:
            self.folder.clear()
            return False
        state = self.folder.checkpoints.load(path)
        progress = state.progress
        differences = TrainRecipe.from_dict(progress["recipe"]).differences(self.recipe)
        if differences:
            raise ConfigError(
                f"checkpoint '{path}' was made by another recipe ({'; '.join(differences)}); "
                "resume with the same recipe and overrides, or train into another folder."
            )
        self._unwrapped().load_state_dict(state.model)
        self._average.load_state_dict(state.average)
        self._optimizer.load_state_dict(state.optimizer["optimizer"])
        self._schedule.load_state_dict(state.optimizer["schedule"])
        self._sampler.load_state_dict(progress["sampler"])
        self._step, self._seconds = progress["step"], progress["seconds"]
        self._loss, self._validation = progress["loss"], progress["validation"]
        if progress["best_error"] is not None:
            self._best_error = progress["best_error"]
        for log in (self.folder.losses, self.folder.validations):
            log.keep_until(self._step)
        restore_random_state(state.random)
        self._saved_step = self._step
        return True

    def run(self) -> TrainingResult:
        """Train until the recipe's last step, or until Ctrl-C.

        Raises:
            TrainingError: The loss or its gradient is no longer finite.
        """
        recipe = self.recipe
        self.folder.write_recipe(recipe)
        self._model.train()
        display = ProgressDisplay(
            self._console, "training", recipe.steps, start=self._step, per_count=recipe.batch_size
        )
        with _catch_interrupt() as interrupt, display:
            while self._step < recipe.steps and not interrupt.requested:
                began = time.monotonic()
                figures = self._train_step()
                self._seconds += time.monotonic() - began
                self.folder.losses.append(self._step, figures)
                display.advance(loss=figures["loss"], learning_rate=figures["learning_rate"])
                is_last = self._step == recipe.steps
                if is_last or self._step % recipe.validation.every_steps == 0:
                    self._validate(display)
                if is_last or self._step % recipe.checkpoint.every_steps == 0:
                    self._save()
            if self._saved_step != self._step:
                self._save()
        self.folder.losses.close()
        self.folder.validations.close()
        return TrainingResult(
            step=self._step,
            is_complete=self._step >= recipe.steps,
            seconds=self._seconds,
            loss=self._loss,
            validation=self._validation,
        )

    def _prepare_inputs(self, model: AbstractVLA) -> FrameInputs:
        title = "encoding" if self.recipe.cache_features else "reading"
        with ProgressDisplay(self._console, title, self._dataset.num_frames) as display:
            if self.recipe.cache_features:
                return cache_features(model, self._dataset, self._pipeline, display.advance)
            texts = self._data.texts
            return store_images(self._dataset, self._pipeline, texts, display.advance)

    def _train_step(self) -> dict[str, float]:
        frames = self._sampler.next_batch()
        batch = self._inputs.inputs(frames) | self._data.targets(frames)
        if self._plan_ages is not None:
            batch |= self._plan_ages.inputs(frames)
        use_bf16 = self.recipe.precision == "bf16"
        with torch.autocast(self._accelerator.device.type, torch.bfloat16, enabled=use_bf16):
            outputs = self._model(**batch)
        losses = {key: value.item() for key, value in outputs.items() if value.dim() == 0}
        self._require_finite("loss", losses["loss"])
        learning_rate = self._schedule.get_last_lr()[0]
        self._accelerator.backward(outputs["loss"])
        limit = self.recipe.optimizer.max_grad_norm
        norm = float(self._accelerator.clip_grad_norm_(self._trained, limit))
        self._require_finite("gradient norm", norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._schedule.step()
        self._average.update()
        self._step += 1
        previous = losses["loss"] if math.isnan(self._loss) else self._loss
        self._loss = previous + _RECENT * (losses["loss"] - previous)
        return losses | {"learning_rate": learning_rate, "gradient_norm": norm}

    def _require_finite(self, name: str, value: float) -> None:
        if math.isfinite(value):
            return
        latest = self.folder.checkpoints.latest()
        kept = f"the last checkpoint is '{latest}'" if latest else "no checkpoint was saved yet"
        self.folder.losses.close()
        raise TrainingError(
            f"{name} is {value} at step {self._step + 1}, so training stopped; {kept}. "
            f"Lower optimizer.learning_rate (now {self.recipe.optimizer.learning_rate:g}), "
            f"or set precision=fp32 (now {self.recipe.precision}), and look for outliers in the "
            "dataset's meta/stats.json."
        )

    def _validate(self, display: ProgressDisplay) -> None:
        frames = self._validation_frames()
        if len(frames) == 0:
            return
        with self._average.applied():
            self._validation = open_loop_error(
                self._unwrapped(),
                self._inputs,
                self._data,
                frames,
                batch_size=self.recipe.batch_size,
                seed=self.recipe.seed,
            )
        joints = {f"error_{name}": value for name, value in self._validation["joints"].items()}
        figures = {"error": self._validation["error"], **joints}
        self.folder.validations.append(self._step, figures)
        display.note(f"step {self._step}: open-loop error {figures['error']:.4f}")

    def _validation_frames(self) -> Tensor:
        frames = self._data.validation_frames
        count = min(self.recipe.validation.max_frames, len(frames))
        return frames[torch.linspace(0, len(frames) - 1, count).round().long()]

    def _save(self) -> None:
        error = self._validation["error"] if self._validation else math.inf
        is_best = error < self._best_error
        self._best_error = min(error, self._best_error)
        self.folder.losses.flush()
        self.folder.validations.flush()
        progress = {
            "step": self._step,
            "sampler": self._sampler.state_dict(),
            "seconds": self._seconds,
            "loss": self._loss,
            "validation": self._validation,
            "best_error": self._best_error if math.isfinite(self._best_error) else None,
            "recipe": self.recipe.to_dict(),
        }
        state = TrainingState(
            model=self._unwrapped().state_dict(),
            average=self._average.state_dict(),
            optimizer={
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
            },
            progress=progress,
            random=random_state(),
        )
        self.folder.checkpoints.save(self._step, state, is_best=is_best)
        if is_best or self.recipe.checkpoint.policy == "last":
            with self._average.applied():
                self.folder.write_policy(self._unwrapped(), self._pipeline, self._provenance())
        self.folder.plot()
        self._saved_step = self._step

    def _provenance(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.to_dict(),
            "dataset": describe_dataset(self._dataset),
            "steps": self._step,
            "seconds": round(self._seconds, 1),
            "loss": self._loss,
            "validation": self._validation,
            "parameters": self._unwrapped().get_num_parameters(),
            "trained_parameters": self._unwrapped().get_num_parameters(trainable_only=True),
            "versions": describe_versions(),
        }

    def _unwrapped(self) -> AbstractVLA:
        model: AbstractVLA = self._accelerator.unwrap_model(self._model)
        return model


@dataclass
class _Interrupt:
    requested: bool = False


@contextmanager
def _catch_interrupt() -> Iterator[_Interrupt]:
    """Let the first Ctrl-C end the loop after a whole step; a second one stops at once."""
    interrupt = _Interrupt()

    def request(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True

    previous = signal.signal(signal.SIGINT, request)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, previous)


def _seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
