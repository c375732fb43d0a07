# SPDX-License-Identifier: MIT
"""Whether one policy is better than another on the same recordings, tick by tick.

The difference of both errors is taken at every control tick that both answered. Errors of
neighbouring ticks are alike, so that blocks of ticks are drawn, not ticks (block bootstrap,
Kuensch, Annals of Statistics 17, 1989).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError
from vla_core.evaluation.replay.action_units import METRE, RADIAN, action_units
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.processing.contract import RobotContract

_NUM_DRAWS = 2000
_CONFIDENCE = 0.95
_LEAST_BLOCKS = 4
"""Blocks below which there is no interval: so few cannot tell how much they differ."""
BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"


def compare_policies(
    first: Sequence[BagResult], second: Sequence[BagResult], contract: RobotContract
) -> dict[str, Any]:
    """Return how the second policy differs from the first, as JSON values.

    Args:
        first: Results of the policy to compare with.
        second: Results of the other one, of the same recordings in the same order.
        contract: The robot.

    Raises:
        ConfigError: The recordings differ, or no tick is answered by both.
    """
    bags = [[result.facts["bag"] for result in results] for results in (first, second)]
    if bags[0] != bags[1]:
        raise ConfigError(f"both policies must be replayed on the same bags, got {bags}.")
    if not first:
        raise ConfigError("the policies have no recording in common that both could answer.")
    units = np.array(action_units(contract))
    found: dict[str, Any] = {
        "first": first[0].facts["checkpoint_id"],
        "second": second[0].facts["checkpoint_id"],
        "confidence": _CONFIDENCE,
    }
    pairs = [_pairs(a, b) for a, b in zip(first, second, strict=True)]
    columns: dict[str, NDArray[np.bool_] | None] = {"policy": None}
    columns |= {unit: units == unit for unit in (RADIAN, METRE) if (units == unit).any()}
    for name, chosen in columns.items():
        blocks: list[NDArray[np.float64]] = []
        for a, b, (rows_a, rows_b, size) in zip(first, second, pairs, strict=True):
            values = np.stack((_errors(a, chosen)[rows_a], _errors(b, chosen)[rows_b]), axis=1)
            blocks += _blocks(values, a.ticks["episode"][rows_a], size)
        found[name] = _difference(blocks)
    return found


def format_interval(part: Mapping[str, Any], scale: float) -> str:
    """Return the interval of a difference for a reader, or why there is none."""
    if part["lower"] is None:
        return f"too short: {part['blocks']} of {_LEAST_BLOCKS} blocks"
    return f"{scale * part['lower']:+.3g} to {scale * part['upper']:+.3g}"


def _errors(result: BagResult, columns: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Return every tick's mean error, [T]: of some joints, or of all in the policy's space."""
    if columns is None:
        return np.asarray(result.ticks["score"])
    return np.asarray(result.ticks["error"][:, columns].mean(axis=1))


def _pairs(
    first: BagResult, second: BagResult
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return the rows of the ticks that both have, and how many a block has."""
    _, rows_a, rows_b = np.intersect1d(
        first.ticks["time_ns"], second.ticks["time_ns"], return_indices=True
    )
    sizes = [len(result.horizon["count"]) for result in (first, second)]
    return rows_a, rows_b, max(1, *sizes)


def _blocks(
    values: NDArray[np.float64], episodes: NDArray[np.int64], size: int
) -> list[NDArray[np.float64]]:
    """Cut rows into blocks within episodes, [n, 2] each, without rows of unknown errors."""
    found = []
    for episode in np.unique(episodes):
        rows = values[episodes == episode]
        rows = rows[np.isfinite(rows).all(axis=1)]
        found += [rows[start : start + size] for start in range(0, len(rows), size)]
    return [block for block in found if len(block)]


def _difference(blocks: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    if not blocks:
        raise ConfigError("the policies answered no control tick in common.")
    sums = np.array([block.sum(axis=0) for block in blocks])  # [B, 2]
    counts = np.array([len(block) for block in blocks])
    mean_a, mean_b = sums.sum(axis=0) / counts.sum()
    lower = upper = None
    verdict = UNDECIDED
    if len(blocks) >= _LEAST_BLOCKS:
        lower, upper = _interval(sums, counts)
        if not lower <= 0.0 <= upper:
            verdict = WORSE if lower > 0.0 else BETTER
    return {
        "first_mae": float(mean_a),
        "second_mae": float(mean_b),
        "difference": float(mean_b - mean_a),
        "lower": lower,
        "upper": upper,
        "ticks": int(counts.sum()),
        "blocks": len(blocks),
        "verdict": verdict,
    }


def _interval(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the interval of the difference of means, from sums [B, 2] over blocks of ticks."""
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(sums), (_NUM_DRAWS, len(sums)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)[:, None]  # [draws, 2]
    tail = (1.0 - _CONFIDENCE) / 2.0
    lower, upper = np.quantile(means[:, 1] - means[:, 0], (tail, 1.0 - tail))
    return float(lower), float(upper)
