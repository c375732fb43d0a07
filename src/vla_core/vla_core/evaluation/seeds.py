# SPDX-License-Identifier: MIT
"""Scenes that no training has seen, by their seeds."""

from __future__ import annotations

from vla_core.commands.pretrain_vlm import FIRST_SEED as VLM_FIRST_SEED
from vla_core.commands.record_sim import SEED_LIMIT as DEMONSTRATION_SEED_LIMIT
from vla_core.errors import ConfigError

HELD_OUT_SEEDS = range(DEMONSTRATION_SEED_LIMIT, VLM_FIRST_SEED)
"""Demonstrations take the seeds below, the pre-training of the VLM those above."""


def held_out_seeds(first: int, count: int) -> range:
    """Return the seeds of an evaluation.

    Args:
        first: First seed.
        count: Number of scenes.

    Raises:
        ConfigError: There is no scene, or training may have seen one.
    """
    if count < 1:
        raise ConfigError(f"episodes must be at least 1, got {count}.")
    seeds = range(first, first + count)
    if seeds[0] not in HELD_OUT_SEEDS or seeds[-1] not in HELD_OUT_SEEDS:
        raise ConfigError(
            f"seeds {seeds[0]} to {seeds[-1]} may have been seen in training; scenes of an "
            f"evaluation have seeds from {HELD_OUT_SEEDS[0]} to {HELD_OUT_SEEDS[-1]}."
        )
    return seeds
