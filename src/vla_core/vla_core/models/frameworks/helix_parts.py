# SPDX-License-Identifier: MIT
"""Helix's tiers by the configuration of the whole policy, or one of them out of its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_core.errors import CheckpointError
from vla_core.models.frameworks.helix_tiers import (
    HelixMotorControl,
    HelixPlanner,
    HelixPolicy,
    HelixTier,
)
from vla_core.models.keywords import check_choice
from vla_core.models.vlm.base import AbstractVLM
from vla_core.models.vlm.registry import vlm_from_config
from vla_core.models.weights import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    building_from,
    load_tensors,
    read_config,
    read_part_tensors,
)

TIERS = ("planner", "policy", "motor_control")


def load_tier(path: str | Path, tier: str) -> HelixTier:
    """Load one tier out of a whole policy's folder, in eval mode; every weight must fit.

    The weights of the other tiers are not read.

    Args:
        path: A folder that `save_pretrained` wrote.
        tier: `planner`, `policy` or `motor_control`.

    Raises:
        ConfigError: If there is no such tier.
        CheckpointError: If a file is missing or damaged, holds another framework, or does not
            fit.
    """
    check_choice("tier", tier, TIERS)
    folder = Path(path)
    config = read_config(folder / CONFIG_NAME)
    if config.get("framework") != "helix":
        raise CheckpointError(
            f"{folder / CONFIG_NAME} is of framework {config.get('framework')!r}, not 'helix'."
        )
    module: HelixTier
    with building_from(folder / CONFIG_NAME):
        if tier == "planner":
            module = build_planner(config, vlm_from_config(config["vlm"]))
        elif tier == "policy":
            module = build_policy(config)
        else:
            module = build_motor_control(config)
    tensors = read_part_tensors(folder / WEIGHTS_NAME, f"{tier}.")
    load_tensors(module, tensors, folder / WEIGHTS_NAME)
    return module.eval()


def build_planner(config: Mapping[str, Any], vlm: AbstractVLM) -> HelixPlanner:
    """Return an untrained planner, around a VLM."""
    return HelixPlanner(vlm, config["plan_dim"], config["num_cameras"])


def build_policy(config: Mapping[str, Any]) -> HelixPolicy:
    """Return an untrained policy."""
    names = ("action_dim", "state_dim", "plan_dim", "plan_horizon", "hidden_dim", "depth")
    more = ("num_heads", "num_cameras", "plan_max_age", "dropout")
    # Checkpoints of the time when there was no choice name neither the eyes nor the dropout.
    return HelixPolicy(
        **{name: config[name] for name in (*names, *more)},
        state_dropout=config.get("state_dropout", 0.0),
        vision_encoder=config.get("vision_encoder"),
    )


def build_motor_control(config: Mapping[str, Any]) -> HelixMotorControl:
    """Return an untrained motor control."""
    return HelixMotorControl(
        config["action_dim"],
        config["state_dim"],
        config["plan_horizon"],
        config["motor_dim"],
        state_noise=config.get("motor_state_noise", 0.0),
    )
