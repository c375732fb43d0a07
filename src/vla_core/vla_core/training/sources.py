# SPDX-License-Identifier: MIT
"""The datasets of a recipe: each with the robot that it was recorded with, opened as sources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from vla_core.dataset.format import ACTION, STATE
from vla_core.dataset.reader import EpisodeDataset
from vla_core.errors import ConfigError
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.normalization import Statistics
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.training.batch_source import BatchSource
from vla_core.training.progress import ProgressDisplay
from vla_core.training.recipe import TrainRecipe
from vla_core.training.training_data import require_fit

if TYPE_CHECKING:
    from vla_core.models.frameworks import AbstractVLA


@dataclass(frozen=True)
class Robots:
    """The robots of a recipe's datasets.

    Attributes:
        first: The one that the policy is for.
        others: The further ones, by the name of their space of state and action.
        of_datasets: Name of the space of each dataset; None for the first robot's.
    """

    first: RobotContract
    others: Mapping[str, RobotContract]
    of_datasets: tuple[str | None, ...]

    def contract(self, space: str | None) -> RobotContract:
        """Return the contract of a space."""
        return self.first if space is None else self.others[space]


def load_robots(recipe: TrainRecipe) -> Robots:
    """Load the contracts of a recipe.

    Raises:
        ConfigError: The first dataset is of another robot than the recipe, or two robots have the
            same name.
        ContractError: A contract is not valid.
    """
    first = load_contract(recipe.contract)
    others: dict[str, RobotContract] = {}
    spaces: list[str | None] = []
    for number, dataset in enumerate(recipe.datasets):
        contract = first if dataset.contract is None else load_contract(dataset.contract)
        if contract.to_dict() == first.to_dict():
            spaces.append(None)
            continue
        if number == 0:
            raise ConfigError(
                f"dataset.0 is of '{dataset.contract}', but the policy is for "
                f"'{recipe.contract}'; name a dataset of that robot first."
            )
        name = re.sub(r"\W|^(?=\d)", "_", contract.robot)
        if others.setdefault(name, contract).to_dict() != contract.to_dict():
            raise ConfigError(
                f"two contracts of dataset are of a robot '{contract.robot}' but differ; give "
                "each robot a name of its own."
            )
        spaces.append(name)
    return Robots(first, others, tuple(spaces))


def open_sources(
    recipe: TrainRecipe, robots: Robots, model: AbstractVLA, console: Console
) -> tuple[BatchSource, ...]:
    """Open the datasets of a recipe; those of one robot share the statistics of all of them.

    Args:
        recipe: Names them.
        robots: Their robots.
        model: Says how long its chunks and histories are.
        console: Where damaged episodes are named.

    Raises:
        ConfigError: There are fewer frames than a batch needs, or more instructions than ids, or
            robots act in other ways than the model's one head can.
        DatasetError: A dataset is damaged or does not fit its contract.
    """
    datasets = [_open(each.path, recipe.skip_damaged, console) for each in recipe.datasets]
    for dataset, space in zip(datasets, robots.of_datasets, strict=True):
        require_fit(dataset, robots.contract(space))
    has_spaces = "spaces" in model.get_config()
    if not has_spaces:
        _require_one_meaning(robots, type(model).__name__)
    tasks = _tasks(datasets, model.get_config().get("num_tasks", 1))
    pipelines = {}
    for space in dict.fromkeys(robots.of_datasets):
        same = [d for d, s in zip(datasets, robots.of_datasets, strict=True) if s == space]
        pipelines[space] = ProcessingPipeline(
            robots.contract(space),
            _statistics(same, STATE),
            _statistics(same, ACTION),
            image_size=recipe.image_size,
            chunk_size=model.chunk_length,
            normalization=recipe.normalization,
            history_length=model.get_config().get("history_length", 0),
            tasks=tasks,
        )
    return tuple(
        BatchSource(recipe, dataset, pipelines[space], space if has_spaces else None)
        for dataset, space in zip(datasets, robots.of_datasets, strict=True)
    )


def _require_one_meaning(robots: Robots, model: str) -> None:
    """Refuse robots whose actions cannot come from one head.

    Raises:
        ConfigError: The kinds of their actions, or the times between two, differ.
    """
    first = robots.first.action
    for contract in robots.others.values():
        action = contract.action
        if (action.kind, action.rate_hz) != (first.kind, first.rate_hz):
            raise ConfigError(
                f"the actions of robot '{contract.robot}' are {action.kind} at {action.rate_hz:g} "
                f"Hz, those of '{robots.first.robot}' {first.kind} at {first.rate_hz:g} Hz, but "
                f"{model} has one action head for all; leave that dataset out, or train 'octo', "
                "which has one for each robot."
            )


def _open(path: str, skip_damaged: bool, console: Console) -> EpisodeDataset:
    dataset = EpisodeDataset(path, skip_damaged=skip_damaged)
    if not skip_damaged:
        return dataset
    damaged = {}
    with ProgressDisplay(console, "checking", dataset.num_episodes, unit="episodes") as display:
        for place, problem in dataset.find_damaged():
            if problem:
                damaged[place] = problem
            display.advance(1)
    dataset.leave_out(damaged)
    for number, problem in sorted(dataset.skipped.items()):
        console.print(f"episode {number} of '{path}' is left out: {problem}", soft_wrap=True)
    return dataset


def _tasks(datasets: Sequence[EpisodeDataset], num_tasks: int) -> list[str]:
    """Return the instructions that have an id; a model with one id is told its task by words."""
    if num_tasks <= 1:
        return []
    tasks = list(dict.fromkeys(task for dataset in datasets for task in dataset.instructions))
    if len(tasks) > num_tasks:
        raise ConfigError(
            f"model.num_tasks is {num_tasks}, but the episodes have {len(tasks)} instructions; "
            f"set model.num_tasks={len(tasks)}, or model.num_tasks=1 for tasks that are told by "
            "words alone."
        )
    return tasks


def _statistics(datasets: Sequence[EpisodeDataset], key: str) -> Statistics:
    return Statistics.from_array(np.concatenate([dataset.column(key) for dataset in datasets]))
