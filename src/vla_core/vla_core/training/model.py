# SPDX-License-Identifier: MIT
"""The untrained model that a recipe describes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_core.errors import CheckpointError, ConfigError, VLAError
from vla_core.inference.checkpoint_files import CONFIG_NAME, WEIGHTS_NAME, find_checkpoint
from vla_core.models.frameworks import AbstractVLA, framework_class
from vla_core.models.keywords import check_keywords, check_value_types
from vla_core.models.vlm import get_vlm
from vla_core.models.weights import load_tensors, read_config, read_tensors
from vla_core.processing.contract import RobotContract
from vla_core.processing.value_checks import quoted
from vla_core.training.recipe import TrainRecipe


def build_model(
    recipe: TrainRecipe,
    contract: RobotContract,
    others: Mapping[str, RobotContract] | None = None,
) -> AbstractVLA:
    """Build the framework of a recipe for a robot.

    Args:
        recipe: Names framework and VLM and gives their keywords.
        contract: Gives the dimensions of state and action and the number of cameras.
        others: Further robots that it is trained on, by the name of their space.

    Raises:
        ConfigError: A keyword is unknown, follows from the contract, or contradicts it.
        UnknownNameError: The framework or the VLM is not registered.
        CheckpointError: The weights of the VLM, or those to start from, cannot be loaded or do
            not fit.
    """
    framework = framework_class(recipe.framework)
    given = dict(recipe.model)
    check_keywords(framework, given)
    check_value_types(framework, given)
    derived: dict[str, Any] = _sizes(contract)
    if others:
        derived |= _further_spaces(recipe, framework, contract, others)
    taken = sorted({"vlm", *derived} & set(given))
    if taken:
        raise ConfigError(
            f"model gives {quoted(taken)}, which follow from the contract and the recipe's vlm; "
            "remove them."
        )
    counts = {len(robot.cameras) for robot in (contract, *(others or {}).values())}
    expected = len(contract.cameras) if len(counts) == 1 else None  # None: any number.
    num_cameras = given.setdefault("num_cameras", expected)
    if num_cameras != expected:
        raise ConfigError(
            f"model.num_cameras is {num_cameras}, but the contract of '{contract.robot}' has "
            f"{len(contract.cameras)} cameras: {quoted(contract.cameras)}."
        )
    has_vlm = "vlm" in inspect.signature(framework).parameters
    if has_vlm != bool(recipe.vlm):
        wanted = "needs a vlm; give its 'name'" if has_vlm else "has no VLM; give vlm: {}"
        raise ConfigError(
            f"framework {recipe.framework!r} {wanted}, got vlm {dict(recipe.vlm)!r}."
        )
    if has_vlm:
        given["vlm"] = get_vlm(**recipe.vlm)
    try:
        model = framework(**derived, **given)
    except VLAError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"framework {recipe.framework!r} cannot be built from the recipe's model "
            f"{dict(recipe.model)}: {error}."
        ) from error
    if recipe.start_from is not None:
        _start_from(model, find_checkpoint(recipe.start_from, contract), recipe)
    return model


def _start_from(model: AbstractVLA, checkpoint: Path, recipe: TrainRecipe) -> None:
    found = read_config(checkpoint / CONFIG_NAME).get("framework")
    if found != model.framework:
        raise ConfigError(
            f"start_from '{recipe.start_from}' is a checkpoint of framework {found!r}, but the "
            f"recipe trains {model.framework!r}; name one of that framework."
        )
    weights = checkpoint / WEIGHTS_NAME
    own, tensors = model.state_dict(), read_tensors(weights)
    for part in recipe.start_anew:
        kept = {key: value for key, value in own.items() if _is_of(key, part)}
        if not kept:
            raise ConfigError(
                f"start_anew names '{part}', but no weight of framework {recipe.framework!r} "
                f"begins so; its parts: {quoted(dict.fromkeys(key.split('.')[0] for key in own))}."
            )
        tensors = {key: value for key, value in tensors.items() if not _is_of(key, part)} | kept
    try:
        load_tensors(model, tensors, weights)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}\n  Or name the parts that other tasks or another robot change, which then "
            "start anew, such as start_anew=[task_embedding]."
        ) from error


def _is_of(key: str, part: str) -> bool:
    return key == part or key.startswith(f"{part}.")


def _sizes(robot: RobotContract) -> dict[str, int]:
    return {"action_dim": len(robot.action_names), "state_dim": len(robot.state_names)}


def _further_spaces(
    recipe: TrainRecipe,
    framework: type[AbstractVLA],
    contract: RobotContract,
    others: Mapping[str, RobotContract],
) -> dict[str, Any]:
    """Return the spaces of state and action of further robots, if a framework has these.

    Raises:
        ConfigError: It has one space, and the robots differ in size.
    """
    if "spaces" in inspect.signature(framework).parameters:
        return {"spaces": {name: _sizes(robot) for name, robot in others.items()}}
    expected = {**_sizes(contract), "cameras": len(contract.cameras)}
    for name, robot in others.items():
        found = {**_sizes(robot), "cameras": len(robot.cameras)}
        differences = [
            f"{key} {found[key]}, not {value}"
            for key, value in expected.items()
            if found[key] != value
        ]
        if differences:
            raise ConfigError(
                f"framework {recipe.framework!r} has one space of state and action, that of "
                f"'{contract.robot}', but '{name}' has {'; '.join(differences)}. Leave its "
                "dataset out, or train 'octo', which has a space for each robot."
            )
    return {}
