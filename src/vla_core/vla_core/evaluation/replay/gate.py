# SPDX-License-Identifier: MIT
"""Limits that the figures of a replay must keep, for the CI of a robot team."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vla_core.errors import ConfigError
from vla_core.processing.value_checks import UniqueKeyLoader, quoted

_BOUNDS = ("min", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Bounds of one figure.

    Attributes:
        path: Where it is in metrics.json, such as ``error.total.rad.mae``.
        minimum: Lowest allowed value.
        maximum: Highest allowed value.
    """

    path: str
    minimum: float = -math.inf
    maximum: float = math.inf

    def find_fault(self, metrics: Mapping[str, Any]) -> str:
        """Return how the figures break the limit, empty if they keep it.

        Raises:
            ConfigError: There is no such figure.
        """
        value = _look_up(metrics, self.path)
        if value is None:
            return f"{self.path} was not measured, so that its limit is not kept"
        if value > self.maximum:
            return f"{self.path} is {value:.6g}, at most {self.maximum:g} is allowed"
        if value < self.minimum:
            return f"{self.path} is {value:.6g}, at least {self.minimum:g} is required"
        return ""


def load_gate(path: Path) -> list[Limit]:
    """Read a file with limits: ``limits:`` maps a figure's path to ``{min: ..., max: ...}``.

    Raises:
        ConfigError: The file is missing or not of this form.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"gate '{path}' cannot be read: {error}.") from error
    limits = data.get("limits") if isinstance(data, dict) else None
    if not isinstance(limits, dict) or not limits or set(data) != {"limits"}:
        raise ConfigError(
            f"gate '{path}' must be a mapping 'limits' from figures of metrics.json, such as "
            "error.total.rad.mae, to {min: NUMBER, max: NUMBER}."
        )
    return [_limit(str(name), bounds) for name, bounds in limits.items()]


def find_faults(limits: list[Limit], metrics: Mapping[str, Any]) -> list[str]:
    """Return how figures break limits; empty if all are kept.

    Raises:
        ConfigError: A limit is on a figure that does not exist.
    """
    return [fault for limit in limits if (fault := limit.find_fault(metrics))]


def _limit(path: str, bounds: object) -> Limit:
    is_valid = isinstance(bounds, dict) and bounds and set(bounds) <= set(_BOUNDS)
    numbers = list(bounds.values()) if isinstance(bounds, dict) else []
    if not is_valid or not all(type(value) in (int, float) for value in numbers):
        raise ConfigError(f"limits.{path} must be {{min: NUMBER, max: NUMBER}}, got {bounds!r}.")
    assert isinstance(bounds, dict)
    return Limit(
        path=path,
        minimum=float(bounds.get("min", -math.inf)),
        maximum=float(bounds.get("max", math.inf)),
    )


def _look_up(metrics: Mapping[str, Any], path: str) -> float | None:
    value: Any = metrics
    done: list[str] = []
    for part in path.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping) or part not in value:
            known = quoted(value) if isinstance(value, Mapping) else "no further entry"
            within = f" in '{'.'.join(done)}'" if done else ""
            raise ConfigError(
                f"the gate limits '{path}', but metrics.json has no '{part}'{within}; available: "
                f"{known}."
            )
        value = value[part]
        done.append(part)
    if value is None:
        return None
    if not isinstance(value, (bool, int, float)):
        raise ConfigError(
            f"limits.{path} is no number in metrics.json, got {type(value).__name__}."
        )
    return float(value)
