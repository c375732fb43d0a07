# SPDX-License-Identifier: MIT
"""How a run over ROS differs from a replay without: the same chunks, and what time has cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_core.evaluation.replay.action_units import SMALL_UNITS
from vla_core.evaluation.replay.bag_result import BagResult

_FIGURES = {
    "mean error": ("error", "total", "{unit}", "mae"),
    "rms error": ("error", "total", "{unit}", "rmse"),
    "mean error, first step": ("error", "first_step", "{unit}", "mae"),
}
_SHARES = {
    "gripper agrees": ("gripper", "agreement"),
    "cosine of the motion": ("direction", "p50"),
    "commands that a limit holds back": ("limiter", "cut_share"),
}


def describe_agreement(
    result: BagResult, online: Mapping[str, Any], offline: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the entry `online` of metrics.json.

    Args:
        result: The run.
        online: Its figures, as of ``compute_metrics``.
        offline: Those of the same policy replayed on the same span without ROS; None: unknown.
    """
    rows = {}
    for name, path, unit in _rows():
        here = _look_up(online, path)
        there = None if offline is None else _look_up(offline, path)
        if here is None and there is None:
            continue
        difference = None if here is None or there is None else here - there
        rows[name] = {"unit": unit, "online": here, "offline": there, "difference": difference}
    return {**result.facts["online"], "figures": rows}


def agreement_rows(online: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the figures as text: name, online, offline, difference; none without a replay."""
    if online["equal"] is None:
        return []
    return [
        (
            name,
            _format(row["online"], row["unit"]),
            _format(row["offline"], row["unit"]),
            _format(row["difference"], row["unit"], sign="+"),
        )
        for name, row in online["figures"].items()
    ]


def agreement_text(online: Mapping[str, Any]) -> str:
    """Say whether both give the same chunk for the same observation."""
    same, chunks = online["same_observation"], online["chunks"]
    text = f"{same} of {chunks} chunks answer what the replay without ROS sees, too"
    if online["equal"] is not None and same:
        text += (
            f"; {online['equal']} of these are the same there (largest difference "
            f"{online['largest_difference']:.2g} in the policy's space)"
        )
    return text


def agrees(online: Mapping[str, Any]) -> bool:
    """Tell whether every chunk that could be compared is the same."""
    return online["equal"] is None or online["equal"] == online["same_observation"]


def _rows() -> list[tuple[str, tuple[str, ...], str]]:
    """Return name, path and unit of every figure; '' is the unit of a share."""
    found = []
    for unit in ("policy", *SMALL_UNITS):
        for name, path in _FIGURES.items():
            if unit == "policy" and "first_step" in path:
                continue
            label = "policy's space" if unit == "policy" else unit
            keys = tuple(unit if part == "{unit}" else part for part in path)
            found.append((f"{name}, {label}", keys, unit))
    return found + [(name, path, "") for name, path in _SHARES.items()]


def _look_up(metrics: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = metrics
    for part in path:
        if value is None or part not in value:
            return None
        value = value[part]
    return None if value is None else float(value)


def _format(value: float | None, unit: str, sign: str = "") -> str:
    if value is None:
        return "none"
    scale, name = SMALL_UNITS.get(unit, (1.0, ""))
    return f"{scale * value:{sign}.4g} {name}".rstrip()
