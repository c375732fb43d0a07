# SPDX-License-Identifier: MIT
"""The training loop, on Hugging Face accelerate.

A step draws frames, takes their features or images and their chunks of actions, and updates the
weights and their average. Several processes share the work of a step; one of them writes what the
run leaves behind, by `RunFolder`.
"""

from __future__ import annotations

import math
import shlex
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vla_core.dataset.mixture import Mixture
from vla_core.errors import ConfigError
from vla_core.training.accelerator import (
    from_all_processes,
    own_parts,
    start_accelerator,
    sum_over_processes,
)
from vla_core.training.checkpoint import (
    TrainingState,
    random_state,
    restore_random_state,
    seed_everything,
)
from vla_core.training.failures import explain_failures, explain_full_disk, require_finite
from vla_core.training.interrupt import Interrupt, catch_interrupt
from vla_core.training.learner import Learner
from vla_core.training.model import build_model
from vla_core.training.progress import ProgressDisplay
from vla_core.training.recipe import TrainRecipe
from vla_core.training.result import TrainingResult
from vla_core.training.rollouts import simulated_task, success_rate
from vla_core.training.run_folder import RunFolder, describe_datasets, describe_versions
from vla_core.training.run_log import Group, RunLog
from vla_core.training.sources import load_robots, open_sources
from vla_core.training.trackers import import_wandb

_RECENT = 0.01
_INTERRUPTS = "interrupts"


class Trainer:
    """Trains one model on one dataset, or several.

    Args:
        recipe: What to do.
        folder: Where to leave it.
        console: Where to show it.
        will_resume: Whether `resume` follows; what it refuses by the recipe is then refused
            before the frames are prepared, which takes minutes.

    Raises:
        ConfigError: The recipe contradicts itself, the contract, the model, or the run that is
            to be resumed.
        CheckpointError: The checkpoint to resume from is damaged.
        DatasetError: The dataset is damaged or does not fit the contract.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        folder: RunFolder,
        console: Console,
        *,
        will_resume: bool = False,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        torch.set_num_threads(recipe.num_threads)
        self._accelerator = start_accelerator(
            recipe.device,
            recipe.batch_size,
            recipe.gradient_accumulation,
            recipe.stream.readers,
        )
        self._console = console if self.is_main else Console(quiet=True)
        latest = folder.checkpoints.latest()
        if will_resume and latest is not None:
            self._require_same_run(latest)
        if recipe.wandb is not None:
            import_wandb(recipe.wandb)  # Said before the frames are prepared, which takes minutes.
        seed_everything(recipe.seed)
        robots = load_robots(recipe)
        model = build_model(recipe, robots.first, robots.others)
        self._sources = open_sources(recipe, robots, model, self._console)
        self._mixture = Mixture([each.weight for each in recipe.datasets], recipe.seed)
        self._first = self._sources[0]
        self._first.require_validation()
        self._pipeline = self._first.pipeline
        self._task = None
        if recipe.rollout.every_steps:
            self._task = simulated_task(self._first.dataset, robots.first.robot)
        model.to(self._accelerator.device)
        with explain_failures(recipe, "the frames were prepared", in_training=False):
            for source in self._sources:
                source.prepare(model, self._console)
        self._learner = Learner(model, recipe, self._accelerator)
        if not self.is_main:  # Each process draws noise of its own for its own frames.
            seed_everything(recipe.seed + 1_000_003 * self._accelerator.process_index)
        self._step = 0
        self._seconds = 0.0
        self._loss = math.nan
        self._best_error = math.inf
        self._best_step: int | None = None
        self._validation: dict[str, Any] | None = None
        self._saved_step = -1
        self._log: RunLog | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files; one of all processes does."""
        return bool(self._accelerator.is_main_process)

    @property
    def num_processes(self) -> int:
        """Processes that train together."""
        return int(self._accelerator.num_processes)

    @property
    def step(self) -> int:
        """Steps that were trained so far."""
        return self._step

    def resume(self) -> bool:
        """Go back to the last checkpoint.

        Returns:
            False if there is none, so that training begins at the beginning.

        Raises:
            ConfigError: The checkpoint was made by another recipe, or by more or fewer processes.
            CheckpointError: The checkpoint is damaged.
        """
        path = self.folder.checkpoints.latest()
        if path is None:
            self.start_over()
            return False
        self._require_same_run(path)
        state = self.folder.checkpoints.load(path)
        progress = state.progress
        self._learner.load(state.model, state.average, state.optimizer)
        sampler = progress["sampler"]
        for source, position in zip(self._sources, _by_source(sampler), strict=True):
            source.load_state_dict(position)
        self._step, self._seconds = progress["step"], progress["seconds"]
        self._loss, self._validation = progress["loss"], progress["validation"]
        if progress["best_error"] is not None:
            self._best_error = progress["best_error"]
        self._best_step = progress.get("best_step")
        if self.is_main:
            self.folder.keep_until(self._step)
        if self.recipe.unfreeze_step is not None and self._step > self.recipe.unfreeze_step:
            self._learner.unfreeze_backbone()
        restore_random_state(state.random[self._accelerator.process_index])
        self._saved_step = self._step
        return True

    def start_over(self) -> None:
        """Remove what an earlier run left in the folder."""
        if self.is_main:
            self.folder.clear()

    def run(self) -> TrainingResult:
        """Train until the recipe's last step, or until Ctrl-C.

        Raises:
            TrainingError: The loss or its gradient is no longer finite.
        """
        recipe = self.recipe
        if self.is_main:
            self.folder.write_recipe(recipe)
            self._log = RunLog(self.folder, recipe, self._step + 1)
        self._learner.train()
        display = ProgressDisplay(
            self._console, "training", recipe.steps, start=self._step, per_count=recipe.batch_size
        )
        is_alone = self._accelerator.num_processes == 1
        with (
            catch_interrupt(insist=is_alone) as interrupt,
            display,
            explain_failures(recipe, "a step was trained"),
            explain_full_disk(self.folder.root),
        ):
            must_stop = False
            while self._step < recipe.steps and not must_stop:
                began = time.monotonic()
                figures = self._train_step(interrupt)
                # All processes stop after the same step.
                must_stop = figures.pop(_INTERRUPTS) > 0
                self._seconds += time.monotonic() - began
                self._record("train", figures)
                display.advance(loss=figures["loss"], learning_rate=figures["learning_rate"])
                is_last = self._step == recipe.steps
                is_best = False
                if is_last or self._is_due(recipe.validation.every_steps):
                    is_best = self._validate(display)
                if self._is_due(recipe.rollout.every_steps):
                    self._roll_out(display)
                # The best weights are saved when they are found: later ones are others.
                if is_best or is_last or self._is_due(recipe.checkpoint.every_steps):
                    self._save(is_best=is_best)
                must_stop |= is_alone and interrupt.requested
            if self._saved_step != self._step:
                self._save(is_best=False)
        if self._log is not None:
            self._log.close()
        return TrainingResult(
            step=self._step,
            is_complete=self._step >= recipe.steps,
            seconds=self._seconds,
            loss=self._loss,
            validation=self._validation,
        )

    def _require_same_run(self, checkpoint: Path) -> None:
        progress, random_states = self.folder.checkpoints.load_progress(checkpoint)
        differences = self.recipe.differences(TrainRecipe.from_dict(progress["recipe"]))
        if differences:
            folder = self.folder
            again = shlex.join([str(folder.recipe_path), "--resume", "--output", str(folder.root)])
            raise ConfigError(
                f"checkpoint '{checkpoint}' was made by another recipe: {'; '.join(differences)}. "
                f"Resume as it was begun, by: vla train {again}, or train into another folder "
                "(--output), or discard the run (--overwrite)."
            )
        if len(random_states) != self.num_processes:
            raise ConfigError(
                f"checkpoint '{checkpoint}' was made by {len(random_states)} processes, but there "
                f"are {self.num_processes}, which would draw other noise; start as many."
            )

    def _train_step(self, interrupt: Interrupt) -> dict[str, float]:
        if self._step == self.recipe.unfreeze_step:
            self._learner.unfreeze_backbone()
        learning_rate = self._learner.learning_rate
        figures = self._add_gradients() | {_INTERRUPTS: float(interrupt.requested)}
        figures = sum_over_processes(self._accelerator, figures)
        self._require_finite("loss", figures["loss"])
        norm = self._learner.clip_gradient()
        if not self._learner.may_overflow:
            self._require_finite("gradient norm", norm)
        self._learner.step()
        self._step += 1
        previous = figures["loss"] if math.isnan(self._loss) else self._loss
        self._loss = previous + _RECENT * (figures["loss"] - previous)
        return figures | {"learning_rate": learning_rate, "gradient_norm": norm}

    def _add_gradients(self) -> dict[str, float]:
        """Compute the gradient of a batch and return this process's share of each loss.

        Losses are means over the actions that are not padding. Each part counts by its number of
        these, so that the sum is the loss of the whole batch, however it is divided.
        """
        step = self._step
        source = self._sources[self._mixture.choose(step)]
        frames = source.next_frames(step)
        all_rows = torch.arange(len(frames))
        parts = own_parts(self._accelerator, all_rows, self.recipe.gradient_accumulation)
        num_valid = source.count_valid(frames, step)
        sums: dict[str, float] = {}
        for number, rows in enumerate(parts, start=1):
            share = source.count_valid(frames[rows], step) / num_valid
            batch = source.batch(frames[rows], rows, step)
            losses = self._learner.add_gradient(batch, share, is_last=number == len(parts))
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
        return sums

    def _require_finite(self, name: str, value: float) -> None:
        if math.isfinite(value):
            return
        if self._log is not None:
            self._log.close()
        latest = self.folder.checkpoints.latest()
        require_finite(name, value, self._step + 1, self.recipe, latest)

    def _is_due(self, every_steps: int) -> bool:
        return every_steps > 0 and self._step % every_steps == 0

    def _record(self, group: Group, figures: dict[str, float]) -> None:
        if self._log is not None:
            self._log.log(group, self._step, figures)

    def _roll_out(self, display: ProgressDisplay) -> None:
        assert self._task is not None
        with self._learner.averaged() as model:
            if model is not None:
                rate = success_rate(model, self._pipeline, self.recipe.rollout, self._task)
                self._record("rollout", {"success": rate})
                done = f"{rate:.0%} of the episodes in simulation succeeded"
                display.note(f"step {self._step}: {done}")
        self._accelerator.wait_for_everyone()

    def _validate(self, display: ProgressDisplay) -> bool:
        """Measure the open-loop error and return whether it is the smallest so far."""
        with self._learner.averaged() as model:
            own = None if model is None else self._first.validate(model)
        validation = from_all_processes(self._accelerator, own)[0]
        if validation is None:
            return False
        self._validation = {"step": self._step} | validation
        joints = {f"error_{name}": value for name, value in validation["joints"].items()}
        figures = {"error": validation["error"], **joints}
        self._record("validation", figures)
        display.note(f"step {self._step}: open-loop error {figures['error']:.4f}")
        is_best = bool(validation["error"] < self._best_error)
        if is_best:
            self._best_error, self._best_step = validation["error"], self._step
        return is_best

    def _save(self, *, is_best: bool) -> None:
        if self._log is not None:
            self._log.flush()
        # Before the checkpoint: if the process is killed in between, the resumed run trains these
        # steps again, and writes the same policy.
        if is_best or self.recipe.checkpoint.policy == "last":
            with self._learner.as_policy() as model:
                if model is not None:
                    dtype = self.recipe.checkpoint.dtype
                    self.folder.write_policy(model, self._pipeline, self._provenance(), dtype)
        progress = {
            "step": self._step,
            "sampler": [source.state_dict() for source in self._sources],
            "seconds": self._seconds,
            "loss": self._loss,
            "validation": self._validation,
            "best_error": self._best_error if self._best_step is not None else None,
            "best_step": self._best_step,
            "recipe": self.recipe.to_dict(),
        }
        state = TrainingState(
            model=self._learner.weights(),
            average=self._learner.average(),
            optimizer=self._learner.state_dict(),
            progress=progress,
            random=from_all_processes(self._accelerator, random_state()),
        )
        if self.is_main:
            self.folder.checkpoints.save(self._step, state, best_step=self._best_step)
            self.folder.plot()
        self._accelerator.wait_for_everyone()
        self._saved_step = self._step

    def _provenance(self) -> dict[str, Any]:
        own = [s.dataset for s in self._sources if s.pipeline is self._pipeline]
        return {
            "recipe": self.recipe.to_dict(),
            "dataset": describe_datasets(own),
            "steps": self._step,
            "seconds": round(self._seconds, 1),
            "loss": self._loss,
            "validation": self._validation,
            "parameters": self._learner.model.get_num_parameters(),
            "trained_parameters": self._learner.model.get_num_parameters(trainable_only=True),
            "versions": describe_versions(),
        }


def _by_source(state: Any) -> list[list[dict[str, int]]]:
    # Earlier versions knew one dataset, and at first one stage.
    stages: list[Any] = [state] if isinstance(state, dict) else state
    sources: list[Any] = [stages] if isinstance(stages[0], dict) else stages
    return sources
