# SPDX-License-Identifier: MIT
"""Where the figures of a run go: CSV files, TensorBoard and, by choice, Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from vla_core.training.recipe import TrainRecipe
from vla_core.training.run_folder import RunFolder
from vla_core.training.trackers import TensorBoard, Tracker, WandB

Group = Literal["train", "validation", "rollout"]


class RunLog:
    """Writes figures to everything that keeps them.

    Args:
        folder: Of the run.
        recipe: Says whether Weights & Biases are asked for.
        first_step: Step at which this part of the run begins.

    Raises:
        ConfigError: wandb is asked for and not installed.
    """

    def __init__(self, folder: RunFolder, recipe: TrainRecipe, first_step: int) -> None:
        self._files = {
            "train": folder.losses,
            "validation": folder.validations,
            "rollout": folder.rollouts,
        }
        self._trackers: list[Tracker] = [TensorBoard(folder.tensorboard_path, first_step)]
        if recipe.wandb is not None:
            self._trackers.append(WandB(recipe.wandb, folder.root, recipe.to_dict()))

    def log(self, group: Group, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        self._files[group].append(step, figures)
        for tracker in self._trackers:
            tracker.log(group, step, figures)

    def flush(self) -> None:
        """Bring everything to the disk."""
        for file in self._files.values():
            file.flush()
        for tracker in self._trackers:
            tracker.flush()

    def close(self) -> None:
        """Close everything."""
        for file in self._files.values():
            file.close()
        for tracker in self._trackers:
            tracker.close()
