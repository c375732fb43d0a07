# SPDX-License-Identifier: MIT
"""The figures of a replay, of one recording or of many, as the JSON values of metrics.json.

docs/replay.md describes every entry. An entry is null where nothing was there to measure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.evaluation.metrics import Distribution
from vla_core.evaluation.replay.action_units import METRE, RADIAN, action_units, joint_units
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.causes import Causes
from vla_core.evaluation.replay.probes import ANOTHER_SEED
from vla_core.processing.contract import RobotContract

SCHEMA = {"name": "vla_replay_metrics", "version": 1}

_ADDED = ("count", "absolute", "square", "policy_absolute", "policy_square")
_REACTION_RATIO = 2.0
_LEAST_REACTION = 0.01
"""Mean change of a chunk in the policy's space below which nobody would see it."""


def compute_metrics(results: Sequence[BagResult], contract: RobotContract) -> dict[str, Any]:
    """Return the figures of one or more replays by the same policy.

    Args:
        results: At least one.
        contract: The robot.
    """
    ticks = _joined([result.ticks for result in results])
    sums = _added(results)
    return {
        "schema": SCHEMA,
        "robot": {
            "name": contract.robot,
            "kind": contract.action.kind,
            "rate_hz": contract.action.rate_hz,
            "units": dict(zip(contract.action_names, action_units(contract), strict=True)),
        },
        "ticks": _tick_counts(results),
        "error": _errors(ticks, sums, contract),
        "gripper": _gripper(ticks),
        "direction": _distribution(ticks["cosine"]),
        "smoothness": _smoothness(ticks, contract),
        "limiter": _limiter(results, ticks, contract),
        "timing": _timing(results, ticks),
        "sensitivity": _sensitivity(results),
        "bags": [_bag(result) for result in results],
        "worst": find_worst(results),
    }


def find_worst(results: Sequence[BagResult]) -> list[dict[str, Any]]:
    """Return the worst moments of all recordings, worst first.

    Each has the 'bag' as its number in 'bags' and the 'frame' as its number in the result.
    """
    moments = [
        {**moment, "bag": bag, "frame": frame}
        for bag, result in enumerate(results)
        for frame, moment in enumerate(result.facts["worst"])
    ]
    most = max(len(result.facts["worst"]) for result in results)
    return sorted(moments, key=lambda moment: -moment["score"])[:most]


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _added(results: Sequence[BagResult]) -> dict[str, NDArray[np.float64]]:
    sums = {}
    for name in results[0].horizon:
        values = np.stack([result.horizon[name] for result in results])
        sums[name] = values.sum(axis=0) if name in _ADDED else values.max(axis=0)
    return sums


def _tick_counts(results: Sequence[BagResult]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    gaps: Counter[str] = Counter()
    for result in results:
        counts.update(result.facts["ticks"])
        gaps.update(result.facts["gaps"])
    compared = sum(int(np.isfinite(result.ticks["score"]).sum()) for result in results)
    tried = counts["answered"] + counts["gap"]
    return {
        **counts,
        "compared": compared,
        "gap_share": counts["gap"] / tried if tried else None,
        "gaps": dict(gaps.most_common()),
    }


def _errors(
    ticks: Mapping[str, NDArray[Any]],
    sums: Mapping[str, NDArray[np.float64]],
    contract: RobotContract,
) -> dict[str, Any]:
    units = np.array(action_units(contract))
    groups = {unit: units == unit for unit in (RADIAN, METRE) if (units == unit).any()}
    first = ticks["predicted"] - ticks["recorded"]  # [T, A]
    total = {"policy": _error_figures(sums, slice(None), "policy_")}
    total |= {unit: _error_figures(sums, columns) for unit, columns in groups.items()}
    joints: dict[str, Any] = {}
    for column, (name, unit) in enumerate(zip(contract.action_names, units, strict=True)):
        joints[name] = {
            "unit": str(unit),
            **(_error_figures(sums, [column]) or {}),
            "first_step": _first_step(first[:, column]),
        }
    first_steps = {unit: _first_step(first[:, columns]) for unit, columns in groups.items()}
    dt_s = contract.action.dt_s
    over = {"policy": _by_step(sums, slice(None), "policy_")}
    over |= {unit: _by_step(sums, columns) for unit, columns in groups.items()}
    return {
        "total": total,
        "first_step": first_steps,
        "joints": joints,
        "over_horizon": {
            "time_s": [(step + 1) * dt_s for step in range(len(sums["count"]))],
            **over,
        },
    }


def _error_figures(
    sums: Mapping[str, NDArray[np.float64]], columns: Any, prefix: str = ""
) -> dict[str, float] | None:
    count = float(sums["count"][:, columns].sum())
    if not count:
        return None
    return {
        "mae": float(sums[f"{prefix}absolute"][:, columns].sum() / count),
        "rmse": math.sqrt(float(sums[f"{prefix}square"][:, columns].sum()) / count),
        "max": float(sums[f"{prefix}largest"][:, columns].max()),
    }


def _by_step(
    sums: Mapping[str, NDArray[np.float64]], columns: Any, prefix: str = ""
) -> list[float | None]:
    counts = sums["count"][:, columns].sum(axis=1)
    errors = sums[f"{prefix}absolute"][:, columns].sum(axis=1)
    return [float(e / n) if n else None for e, n in zip(errors, counts, strict=True)]


def _first_step(errors: NDArray[np.float64]) -> dict[str, float] | None:
    errors = np.abs(errors[np.isfinite(errors)])
    if not errors.size:
        return None
    return {
        "mae": float(errors.mean()),
        "rmse": math.sqrt(float((errors**2).mean())),
        "max": float(errors.max()),
    }


def _gripper(ticks: Mapping[str, NDArray[Any]]) -> dict[str, float] | None:
    same, is_open = ticks["gripper_same"], ticks["gripper_open"]
    if not np.isfinite(same).any():
        return None
    share_open = float(np.nanmean(is_open))
    return {
        "agreement": float(np.nanmean(same)),
        "by_chance": max(share_open, 1.0 - share_open),
    }


def _smoothness(ticks: Mapping[str, NDArray[Any]], contract: RobotContract) -> dict[str, Any]:
    def jerk(name: str, column: int) -> float | None:
        values = ticks[name][:, column]
        values = values[np.isfinite(values)]
        return math.sqrt(float(values.mean())) if values.size else None

    return {
        "jerk_rms": {
            joint: {
                "predicted": jerk("jerk_predicted", column),
                "recorded": jerk("jerk_recorded", column),
            }
            for column, joint in enumerate(contract.action_names)
        },
        "switch_jump": _distribution(ticks["switch_jump"]),
    }


def _limiter(
    results: Sequence[BagResult], ticks: Mapping[str, NDArray[Any]], contract: RobotContract
) -> dict[str, Any]:
    refusals = Causes()
    for result in results:
        refusals.update(result.facts["refusals"])
    followed = int(ticks["command_ticks"].sum())
    units = joint_units(contract)
    shares, means = (
        ticks[name].sum(axis=0) / max(followed, 1) for name in ("joint_cuts", "summed_cuts")
    )
    largest = ticks["largest_cuts"].max(axis=0)
    return {
        "command_ticks": followed,
        "cut_share": float(ticks["cut_ticks"].sum() / followed) if followed else None,
        "joints": {
            joint: {
                "unit": unit,
                "cut_share": float(share),
                "mean_cut": float(mean),
                "largest_cut": float(cut),
            }
            for joint, unit, share, mean, cut in zip(
                contract.action.joints, units, shares, means, largest, strict=True
            )
        },
        "refused": sum(refusals.counts().values()),
        "refusals": refusals.counts(most=5),
    }


def _timing(results: Sequence[BagResult], ticks: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    wall_s, inference_s, probing_s = (
        sum(result.facts[name] for result in results)
        for name in ("wall_s", "inference_s", "probing_s")
    )
    names = results[0].facts["ages"]
    return {
        "latency_s": _distribution(ticks["latency_s"]),
        "ages_s": {
            name: _distribution(ticks["ages_s"][:, column]) for column, name in enumerate(names)
        },
        "wall_s": wall_s,
        "overhead_share": (wall_s - probing_s) / inference_s - 1.0 if inference_s else None,
    }


def _sensitivity(results: Sequence[BagResult]) -> dict[str, Any] | None:
    probed = [result.probes for result in results if result.probes]
    if not probed:
        return None
    arrays = _joined(probed)
    error = float(arrays["error"].mean())
    by_chance = float(arrays[f"{ANOTHER_SEED}/change"].mean())
    checks = {}
    for name in (key.removesuffix("/change") for key in arrays if key.endswith("/change")):
        if name == ANOTHER_SEED:
            continue
        change = float(arrays[f"{name}/change"].mean())
        is_seen = change > max(_REACTION_RATIO * by_chance, _LEAST_REACTION)
        checks[name] = {
            "change": change,
            "error": float(arrays[f"{name}/error"].mean()),
            "reacts": is_seen,
        }
    return {
        "count": len(arrays["error"]),
        "error": error,
        "change_by_chance": by_chance,
        "checks": checks,
    }


def _bag(result: BagResult) -> dict[str, Any]:
    facts = result.facts
    scores = result.ticks["score"][np.isfinite(result.ticks["score"])]
    return {
        "path": facts["bag"],
        "duration_s": facts["duration_s"],
        "success": facts["success"],
        "is_run_of_a_policy": facts["is_run_of_a_policy"],
        "start_ns": facts["start_ns"],
        "ticks": facts["ticks"],
        "gaps": facts["gaps"],
        "instructions": facts["instructions"],
        "policy_mae": float(scores.mean()) if scores.size else None,
        "topics": facts["topics"],
    }


def _distribution(values: NDArray[np.float64]) -> dict[str, Any] | None:
    found = Distribution.from_samples(values)
    return found.to_dict() if found else None
