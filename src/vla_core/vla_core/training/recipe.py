# SPDX-License-Identifier: MIT
"""The training recipe: one YAML file in ``config/train`` per run that can be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from vla_core.errors import ConfigError
from vla_core.processing.normalization import NORMALIZATION_MODES
from vla_core.processing.value_checks import (
    UniqueKeyLoader,
    quoted,
    require_choice,
    require_count,
    require_keys,
    require_number,
    require_positive,
    require_text,
)

PRECISIONS = ("fp32", "bf16")
POLICY_WEIGHTS = ("last", "best")

_PACKAGED_RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerRecipe:
    """AdamW, its schedule and the average of the weights.

    Attributes:
        learning_rate: Peak, reached after the warm-up.
        warmup_steps: Steps of linear rise from 0.
        weight_decay: Of matrices; biases, norms and embeddings of one dimension have none.
        max_grad_norm: Norm to which gradients are clipped.
        ema_decay: Of the exponential average of the weights, in [0, 1).
    """

    learning_rate: float
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    ema_decay: float

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_positive("learning_rate", self.learning_rate)
        require_positive("max_grad_norm", self.max_grad_norm)
        _require_fraction("ema_decay", self.ema_decay)
        _require_at_least_zero("weight_decay", self.weight_decay)
        _require_at_least_zero("warmup_steps", self.warmup_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRecipe:
    """Open-loop error on episodes that are held out.

    Attributes:
        fraction: Share of the episodes to hold out; 0 for no validation.
        every_steps: Steps between two validations.
        max_frames: Frames that are tried each time.
    """

    fraction: float
    every_steps: int
    max_frames: int

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _require_fraction("fraction", self.fraction)
        require_count("every_steps", self.every_steps)
        require_count("max_frames", self.max_frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecipe:
    """When to save, and which weights become the policy.

    Attributes:
        every_steps: Steps between two checkpoints.
        policy: ``'last'``, or ``'best'`` by the open-loop error.
    """

    every_steps: int
    policy: str

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_count("every_steps", self.every_steps)
        require_choice("policy", self.policy, POLICY_WEIGHTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """Everything that decides what a training run does.

    Attributes:
        framework: Registered name of the framework.
        contract: Name or path of the robot contract.
        dataset: Folder of the LeRobotDataset v3.0.
        vlm: ``name`` and ``pretrained`` of the VLM, and further keywords of its constructor;
            empty for a framework without one.
        model: Keywords of the framework; what follows from the contract is filled in.
        image_size: Height and width of the model's images, px.
        normalization: Mode of states and actions.
        batch_size: Frames per step.
        steps: Optimiser steps.
        optimizer: Optimiser, schedule, average.
        validation: Held-out episodes.
        checkpoint: Saving.
        cache_features: Encode every frame once by the frozen VLM, and keep its features in memory.
        precision: ``'fp32'`` or ``'bf16'`` for the matrix products of a step.
        num_threads: CPU threads of torch.
        seed: Of initial weights, batches and noise.

    Raises:
        ConfigError: A value is out of range.
    """

    framework: str
    contract: str
    dataset: str
    vlm: Mapping[str, Any]
    model: Mapping[str, Any]
    image_size: int
    normalization: str
    batch_size: int
    steps: int
    optimizer: OptimizerRecipe
    validation: ValidationRecipe
    checkpoint: CheckpointRecipe
    cache_features: bool
    precision: str
    num_threads: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("framework", "contract", "dataset"):
            require_text(name, getattr(self, name))
        for name in ("image_size", "batch_size", "steps", "num_threads"):
            require_count(name, getattr(self, name))
        require_choice("normalization", self.normalization, NORMALIZATION_MODES)
        require_choice("precision", self.precision, PRECISIONS)
        if self.vlm and "name" not in self.vlm:
            raise ConfigError(f"vlm must give a 'name', got {dict(self.vlm)!r}.")
        if self.checkpoint.policy == "best" and self.validation.fraction == 0:
            raise ConfigError(
                "checkpoint.policy 'best' needs held-out episodes, but validation.fraction is 0; "
                "hold some out or set checkpoint.policy=last."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that ``from_dict`` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> TrainRecipe:
        """Build a recipe from plain values, as YAML or JSON give them.

        Raises:
            ConfigError: A key is unknown or missing, or a value is out of range.
        """
        values = dict(require_keys("recipe", data, _names(cls)))
        for name, section in _SECTIONS.items():
            keys = require_keys(name, values[name], _names(section))
            try:
                values[name] = section(**keys)
            except ConfigError as error:
                raise ConfigError(f"{name}.{error}") from None
        for name in ("vlm", "model"):
            if not isinstance(values[name], Mapping):
                raise ConfigError(f"{name} must be a mapping of keywords, got {values[name]!r}.")
        return cls(**values)

    def differences(self, other: TrainRecipe) -> list[str]:
        """Say where another recipe differs.

        Returns:
            One line ``key: mine != theirs`` per difference, nested keys with dots.
        """
        mine, theirs = _flatten(self.to_dict()), _flatten(other.to_dict())
        return [
            f"{key}: {mine.get(key)!r} != {theirs.get(key)!r}"
            for key in dict.fromkeys((*mine, *theirs))
            if mine.get(key) != theirs.get(key)
        ]


_SECTIONS: dict[str, type[Any]] = {
    "optimizer": OptimizerRecipe,
    "validation": ValidationRecipe,
    "checkpoint": CheckpointRecipe,
}


def available_recipes() -> dict[str, Path]:
    """Return the recipes that ship with the project, by name."""
    return {path.stem: path for path in sorted(_PACKAGED_RECIPES.glob("*.yaml"))}


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> TrainRecipe:
    """Read a recipe and apply overrides.

    Args:
        name_or_path: A shipped name such as ``'groot'``, or the path of a YAML file.
        overrides: ``key=value``, with dots for nested keys; the value is read as YAML.

    Raises:
        ConfigError: There is no such recipe, or a key or value is not valid.
    """
    shipped = available_recipes()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(
            f"recipe '{name_or_path}' cannot be read: {error.strerror}; "
            f"shipped recipes: {quoted(shipped)}."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"recipe '{path}' is not UTF-8 text ({error}); save it as UTF-8."
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"recipe '{path}' is not valid YAML: {error}.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"recipe '{path}' must be a mapping, got {data!r}.")
    for override in overrides:
        _apply(data, override)
    return TrainRecipe.from_dict(data)


def _apply(data: Any, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"override {override!r} must be key=value, such as steps=100.")
    *sections, last = key.split(".")
    for section in sections:
        inner = data.get(section) if isinstance(data, Mapping) else None
        if not isinstance(inner, dict):
            nested = [name for name, value in data.items() if isinstance(value, Mapping)]
            raise ConfigError(
                f"override '{key}': recipe has no section '{section}'; sections: {quoted(nested)}."
            )
        data = inner
    data[last] = _parse(text)


def _parse(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            return float(value)  # YAML 1.1 reads 1e-3 as text.
        except ValueError:
            return value
    return value


def _names(cls: type[Any]) -> list[str]:
    return [field.name for field in fields(cls)]


def _flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _require_fraction(name: str, value: float) -> None:
    require_number(name, value)
    if not 0 <= value < 1:
        raise ConfigError(f"{name} must be in [0, 1), got {value!r}.")


def _require_at_least_zero(name: str, value: float) -> None:
    require_number(name, value)
    if value < 0:
        raise ConfigError(f"{name} must be at least 0, got {value!r}.")
