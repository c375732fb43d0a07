# SPDX-License-Identifier: MIT
"""The folder of a training run: recipe, checkpoints, losses, plot, and the policy."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import vla_core
from vla_core.dataset.reader import EpisodeDataset
from vla_core.models.frameworks import AbstractVLA
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.training.checkpoint import Checkpoints
from vla_core.training.metrics_log import MetricsLog
from vla_core.training.plot import plot_losses
from vla_core.training.recipe import TrainRecipe, load_recipe

_MAX_TEXTS = 1000
"""Of more instructions only the number is kept."""


class RunFolder:
    """Names and writes what a run leaves behind.

    Args:
        root: Folder of the run.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recipe_path = root / "recipe.yaml"
        self.policy_path = root / "policy"
        self.checkpoints = Checkpoints(root / "checkpoints")
        self.losses = MetricsLog(root / "loss.csv")
        self.validations = MetricsLog(root / "validation.csv")
        self.rollouts = MetricsLog(root / "rollout.csv")
        self.tensorboard_path = root / "tensorboard"

    def clear(self) -> None:
        """Remove what an earlier run left here."""
        for path in (self.policy_path, self.checkpoints.root, self.tensorboard_path):
            shutil.rmtree(path, ignore_errors=True)
        logs = (self.losses.path, self.validations.path, self.rollouts.path)
        for path in (*logs, self.root / "loss.png", self.root / "wandb_id"):
            path.unlink(missing_ok=True)

    def keep_until(self, step: int) -> None:
        """Remove the figures after a step, which a resumed run writes again."""
        for log in (self.losses, self.validations, self.rollouts):
            log.keep_until(step)

    def write_recipe(self, recipe: TrainRecipe) -> None:
        """Keep the recipe, with all overrides applied."""
        self.root.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(_plain(recipe.to_dict()), sort_keys=False)
        partial = self.root / ".recipe.yaml.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, self.recipe_path)

    def read_recipe(self) -> TrainRecipe:
        """Return the recipe that was kept."""
        return load_recipe(self.recipe_path)

    def plot(self) -> None:
        """Draw loss.png."""
        steps, losses = self.losses.column("loss")
        if steps:
            plot_losses(self.root / "loss.png", steps, losses, *self.validations.column("error"))

    def write_policy(
        self,
        model: AbstractVLA,
        pipeline: ProcessingPipeline,
        provenance: Mapping[str, Any],
        dtype: str = "fp32",
    ) -> None:
        """Write the folder that `vla_core.inference.Policy` loads, and put it in place at once.

        Args:
            model: Its present weights are saved.
            pipeline: Goes into processing.json.
            provenance: Goes into training.json.
            dtype: Of the weights in the file, ``'fp32'`` or ``'fp16'``.
        """
        partial = self.root / ".policy.partial"
        replaced = self.root / ".policy.replaced"
        for path in (partial, replaced):
            shutil.rmtree(path, ignore_errors=True)
        partial.mkdir(parents=True)
        model.save_pretrained(partial, torch.float16 if dtype == "fp16" else None)
        pipeline.save(partial)
        _write_json(partial / "training.json", provenance)
        if self.policy_path.exists():
            os.rename(self.policy_path, replaced)
        os.rename(partial, self.policy_path)
        shutil.rmtree(replaced, ignore_errors=True)


def describe_datasets(datasets: Sequence[EpisodeDataset]) -> dict[str, Any]:
    """Return what training.json says of the datasets of the policy's robot.

    The range of seeds, where episodes have one, tells which scenes a fair evaluation must avoid;
    the task of the simulation, where the first dataset has one, what `vla rollout` has to run;
    the texts of the instructions, if there are not too many, which words a policy was taught.
    """
    facts = [dataset.metadata(index) for dataset in datasets for index in range(len(dataset))]
    seeds = [fact["seed"] for fact in facts if "seed" in fact]
    tasks = {fact.get("sim_task") for fact in facts[: datasets[0].num_episodes]}
    texts = list(dict.fromkeys(text for dataset in datasets for text in dataset.instructions))
    return {
        "episodes": sum(dataset.num_episodes for dataset in datasets),
        "frames": sum(dataset.num_frames for dataset in datasets),
        "fps": datasets[0].fps,
        "robot": datasets[0].robot_type,
        "instructions": len(texts),
        "instruction_texts": texts if len(texts) <= _MAX_TEXTS else None,
        "seeds": [min(seeds), max(seeds)] if seeds else None,
        "sim_task": tasks.pop() if len(tasks) == 1 else None,
    }


def describe_versions() -> dict[str, str]:
    """Return the versions of what computed the weights."""
    return {
        "vla_core": vla_core.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(_plain(data), indent=2) + "\n", encoding="utf-8")


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    return [_plain(value) for value in data] if isinstance(data, (list, tuple)) else data
