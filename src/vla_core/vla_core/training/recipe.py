# SPDX-License-Identifier: MIT
"""The training recipe: one YAML file in ``config/train`` per run that can be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from vla_core.errors import ConfigError
from vla_core.inference.policy import DEVICES
from vla_core.processing.augmentation import ImageAugmentation
from vla_core.processing.normalization import NORMALIZATION_MODES
from vla_core.processing.value_checks import (
    UniqueKeyLoader,
    quoted,
    require_choice,
    require_count,
    require_flag,
    require_keys,
    require_text,
)
from vla_core.training.recipe_sections import (
    CheckpointRecipe,
    DatasetRecipe,
    LoraRecipe,
    OptimizerRecipe,
    RolloutRecipe,
    StageRecipe,
    StreamRecipe,
    ValidationRecipe,
)

PRECISIONS = ("fp32", "bf16", "fp16")

_PACKAGED_RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """Everything that decides what a training run does.

    Attributes:
        framework: Registered name of the framework.
        contract: Name or path of the robot contract.
        dataset: Folder of the LeRobotDataset, or several, the first of the contract's robot.
        vlm: ``name`` and ``pretrained`` of the VLM, and further keywords of its constructor;
            empty for a framework without one.
        model: Keywords of the framework; what follows from the contract is filled in.
        image_size: Height and width of the model's images, px.
        normalization: Mode of states and actions.
        batch_size: Frames per step, of all processes together.
        steps: Optimiser steps.
        optimizer: Optimiser, schedule, average.
        validation: Held-out episodes.
        checkpoint: Saving.
        cache_features: Encode every frame once by the frozen VLM, and keep its features in memory.
        precision: ``'fp32'``, or ``'bf16'`` or ``'fp16'`` for the matrix products of a step.
        num_threads: CPU threads of torch.
        seed: Of initial weights, batches and noise.
        device: ``'cpu'``, ``'cuda'``, or ``'auto'`` for CUDA where there is one.
        start_from: Checkpoint with the weights to start from; None for random ones.
        start_anew: Parts of the model that do not take theirs from it, such as 'task_embedding'.
        gradient_accumulation: Parts that the batch of a process is computed in, to save memory.
        gradient_checkpointing: Recompute the backbone's activations, to save memory.
        compile: Compile the blocks of the transformers with ``torch.compile``.
        shard_weights: Each of several processes keeps a part of the weights (FSDP), and not all.
        unfreeze_step: The backbone is frozen before this step and trained from it on; None
            leaves it as the model has it.
        lora: Low-rank adapters in the backbone.
        skip_damaged: Decode all episodes first, and leave out those that are damaged.
        curriculum: Stages, in order; none for all data and horizons all the time.
        stream: Whether images are decoded when they are needed.
        augmentation: Random changes of the training images; none by default.
        rollout: Episodes in the simulation during the training.
        wandb: Project of Weights & Biases to log to; None for none.

    Raises:
        ConfigError: A value is out of range.
    """

    framework: str
    contract: str
    dataset: str | Sequence[DatasetRecipe]
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
    device: str = "auto"
    start_from: str | None = None
    start_anew: Sequence[str] = ()
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    compile: bool = False
    shard_weights: bool = False
    unfreeze_step: int | None = None
    skip_damaged: bool = False
    lora: LoraRecipe = field(default_factory=LoraRecipe)
    curriculum: Sequence[StageRecipe] = ()
    stream: StreamRecipe = field(default_factory=StreamRecipe)
    augmentation: ImageAugmentation = field(default_factory=ImageAugmentation)
    rollout: RolloutRecipe = field(default_factory=RolloutRecipe)
    wandb: str | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("framework", "contract"):
            require_text(name, getattr(self, name))
        if isinstance(self.dataset, str) or not self.dataset:
            require_text("dataset", self.dataset)
        for name in ("start_from", "wandb"):
            if getattr(self, name) is not None:
                require_text(name, getattr(self, name))
        counts = ("image_size", "batch_size", "steps", "num_threads", "gradient_accumulation")
        for name in counts:
            require_count(name, getattr(self, name))
        if self.unfreeze_step is not None:
            require_count("unfreeze_step", self.unfreeze_step)
        flags = ("cache_features", "gradient_checkpointing", "compile", "shard_weights")
        for name in (*flags, "skip_damaged"):
            require_flag(name, getattr(self, name))
        require_choice("device", self.device, DEVICES)
        require_choice("normalization", self.normalization, NORMALIZATION_MODES)
        require_choice("precision", self.precision, PRECISIONS)
        self._require_consistency()

    @property
    def datasets(self) -> tuple[DatasetRecipe, ...]:
        """The datasets, be it one or several."""
        if isinstance(self.dataset, str):
            return (DatasetRecipe(path=self.dataset),)
        return tuple(self.dataset)

    def _require_consistency(self) -> None:
        if self.vlm and "name" not in self.vlm:
            raise ConfigError(f"vlm must give a 'name', got {dict(self.vlm)!r}.")
        if self.start_anew and self.start_from is None:
            raise ConfigError(
                f"start_anew names {quoted(self.start_anew)}, but all parts start anew, as "
                "start_from is not given; give it or leave start_anew out."
            )
        if self.checkpoint.policy == "best" and self.validation.fraction == 0:
            raise ConfigError(
                "checkpoint.policy 'best' needs held-out episodes, but validation.fraction is 0; "
                "hold some out or set checkpoint.policy=last."
            )
        if self.cache_features and (self.lora.rank or self.unfreeze_step is not None):
            key = "lora.rank" if self.lora.rank else "unfreeze_step"
            raise ConfigError(
                f"{key} trains the backbone, whose features then change, but cache_features is "
                f"true; set cache_features=false or leave {key} out."
            )
        if self.stream.readers and self.batch_size % self.stream.readers:
            raise ConfigError(
                f"batch_size is {self.batch_size}, which stream.readers {self.stream.readers} "
                "cannot divide equally; give a divisor of it."
            )
        if self.stream.readers and self.cache_features:
            raise ConfigError(
                "cache_features encodes all frames once, but stream.readers decodes them anew in "
                "every epoch; set cache_features=false or stream.readers=0."
            )
        if self.cache_features and self.augmentation != ImageAugmentation():
            raise ConfigError(
                "augmentation changes the images in every step, but cache_features is true, which "
                "encodes them once; set cache_features=false or leave augmentation out."
            )
        if self.lora.rank and self.unfreeze_step is not None:
            raise ConfigError(
                "lora.rank trains adapters alone and unfreeze_step the backbone itself; give one."
            )
        if self.compile and self.shard_weights:
            raise ConfigError(
                "compile turns a block into one function, but shard_weights gathers the weights "
                "of each layer in it; set compile=false or shard_weights=false."
            )
        starts = [stage.from_step for stage in self.curriculum]
        if starts and (starts[0] != 0 or starts != sorted(set(starts))):
            raise ConfigError(
                f"the stages of curriculum must have rising from_step, the first 0, got {starts}."
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
        values = dict(require_keys("recipe", data, *_names(cls)))
        for name, section in SECTIONS.items():
            if name in values:
                values[name] = _read_section(name, section, values[name])
        stages = values.get("curriculum", ())
        if not isinstance(stages, (list, tuple)):
            raise ConfigError(f"curriculum must be a list of stages, got {stages!r}.")
        values["curriculum"] = tuple(
            _read_section(f"curriculum.{index}", StageRecipe, stage)
            for index, stage in enumerate(stages)
        )
        if isinstance(values["dataset"], (list, tuple)):
            values["dataset"] = tuple(
                _read_section(f"dataset.{index}", DatasetRecipe, dataset)
                for index, dataset in enumerate(values["dataset"])
            )
        anew = values.get("start_anew", ())
        if not isinstance(anew, (list, tuple)) or not all(isinstance(n, str) for n in anew):
            raise ConfigError(f"start_anew must be a list of names of parts, got {anew!r}.")
        values["start_anew"] = tuple(anew)
        for name in ("vlm", "model"):
            if not isinstance(values[name], Mapping):
                raise ConfigError(f"{name} must be a mapping of keywords, got {values[name]!r}.")
        return cls(**values)

    def differences(self, stored: TrainRecipe) -> list[str]:
        """Say where this recipe, the given one, differs from one that was stored.

        Returns:
            One line ``key is given as .., stored as ..`` per difference, nested keys with dots.
        """
        given, kept = _flatten(self.to_dict()), _flatten(stored.to_dict())
        return [
            f"{key} is given as {given.get(key)!r}, stored as {kept.get(key)!r}"
            for key in dict.fromkeys((*kept, *given))
            if given.get(key) != kept.get(key)
        ]


SECTIONS: dict[str, type[Any]] = {
    "optimizer": OptimizerRecipe,
    "validation": ValidationRecipe,
    "checkpoint": CheckpointRecipe,
    "lora": LoraRecipe,
    "stream": StreamRecipe,
    "augmentation": ImageAugmentation,
    "rollout": RolloutRecipe,
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


def _apply(recipe: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"override {override!r} must be key=value, such as steps=100.")
    *sections, last = key.split(".")
    data: Any = recipe
    for section in sections:
        if data is recipe and section in SECTIONS:
            data.setdefault(section, {})
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


def _read_section(name: str, section: type[Any], data: object) -> Any:
    keys = require_keys(name, data, *_names(section))
    try:
        return section(**keys)
    except ConfigError as error:
        raise ConfigError(f"{name}.{error}") from None


def _names(cls: type[Any]) -> tuple[list[str], list[str]]:
    """Return the keys of a dataclass, and those of them that may be left out."""
    optional = [
        key.name
        for key in fields(cls)
        if key.default is not MISSING or key.default_factory is not MISSING
    ]
    return [key.name for key in fields(cls)], optional


def _flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
