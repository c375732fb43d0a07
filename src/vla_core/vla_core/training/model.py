# SPDX-License-Identifier: MIT
"""The untrained model that a recipe describes."""

from __future__ import annotations

import inspect

from vla_core.errors import ConfigError
from vla_core.inference.checkpoint_files import WEIGHTS_NAME, find_checkpoint
from vla_core.models.frameworks import AbstractVLA, framework_class
from vla_core.models.keywords import check_keywords
from vla_core.models.vlm import get_vlm
from vla_core.models.weights import load_tensors, read_tensors
from vla_core.processing.contract import RobotContract
from vla_core.processing.value_checks import quoted
from vla_core.training.recipe import TrainRecipe


def build_model(recipe: TrainRecipe, contract: RobotContract) -> AbstractVLA:
    """Build the framework of a recipe for a robot.

    Args:
        recipe: Names framework and VLM and gives their keywords.
        contract: Gives the dimensions of state and action and the number of cameras.

    Raises:
        ConfigError: A keyword is unknown, follows from the contract, or contradicts it.
        UnknownNameError: The framework or the VLM is not registered.
        CheckpointError: The weights of the VLM, or those to start from, cannot be loaded or do
            not fit.
    """
    framework = framework_class(recipe.framework)
    given = dict(recipe.model)
    check_keywords(framework, given)
    derived = {"action_dim": len(contract.action_names), "state_dim": len(contract.state_names)}
    taken = sorted({"vlm", *derived} & set(given))
    if taken:
        raise ConfigError(
            f"model gives {quoted(taken)}, which follow from the contract and the recipe's vlm; "
            "remove them."
        )
    num_cameras = given.setdefault("num_cameras", len(contract.cameras))
    if num_cameras != len(contract.cameras):
        raise ConfigError(
            f"model.num_cameras is {num_cameras}, but the contract of '{contract.robot}' has "
            f"{len(contract.cameras)} cameras: {quoted(contract.cameras)}."
        )
    has_vlm = "vlm" in inspect.signature(framework).parameters
    if has_vlm != bool(recipe.vlm):
        expected = "needs a vlm; give its 'name'" if has_vlm else "has no VLM; give vlm: {}"
        raise ConfigError(
            f"framework {recipe.framework!r} {expected}, got vlm {dict(recipe.vlm)!r}."
        )
    if has_vlm:
        given["vlm"] = get_vlm(**recipe.vlm)
    model = framework(**derived, **given)
    if recipe.start_from is not None:
        weights = find_checkpoint(recipe.start_from, contract) / WEIGHTS_NAME
        load_tensors(model, read_tensors(weights), weights)
    return model
