# SPDX-License-Identifier: MIT
"""The sections of a training recipe; a key with a default may be left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vla_core.errors import ConfigError
from vla_core.processing.value_checks import (
    require_at_least_zero,
    require_choice,
    require_count,
    require_fraction,
    require_positive,
    require_text,
)

POLICY_WEIGHTS = ("last", "best")
POLICY_DTYPES = ("fp32", "fp16")
SCHEDULES = ("cosine", "rsqrt", "constant")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerRecipe:
    """AdamW, its schedule and the average of the weights.

    Attributes:
        learning_rate: Peak, reached after the warm-up.
        warmup_steps: Steps of linear rise from 0.
        weight_decay: Of matrices; biases, norms and embeddings of one dimension have none.
        max_grad_norm: Norm to which gradients are clipped.
        ema_decay: Of the exponential average of the weights, in [0, 1).
        schedule: After the warm-up: half a ``'cosine'`` down to 0 at the last step, ``'rsqrt'``
            falls with the inverse square root of the step, ``'constant'`` stays.
        backbone_learning_rate: Peak for the parameters of the backbone; None for the same.
    """

    learning_rate: float
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    ema_decay: float
    schedule: str = "cosine"
    backbone_learning_rate: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_positive("learning_rate", self.learning_rate)
        require_positive("max_grad_norm", self.max_grad_norm)
        require_fraction("ema_decay", self.ema_decay)
        require_at_least_zero("weight_decay", self.weight_decay)
        require_at_least_zero("warmup_steps", self.warmup_steps)
        require_choice("schedule", self.schedule, SCHEDULES)
        if self.backbone_learning_rate is not None:
            require_positive("backbone_learning_rate", self.backbone_learning_rate)


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
        require_fraction("fraction", self.fraction)
        require_count("every_steps", self.every_steps)
        require_count("max_frames", self.max_frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecipe:
    """When to save, and which weights become the policy.

    Attributes:
        every_steps: Steps between two checkpoints; the smallest open-loop error is saved at once.
        policy: ``'last'``, or ``'best'`` by the open-loop error.
        dtype: Of the policy's weights in its file, ``'fp32'``, or ``'fp16'`` for half the size.
    """

    every_steps: int
    policy: str
    dtype: str = "fp32"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_count("every_steps", self.every_steps)
        require_choice("policy", self.policy, POLICY_WEIGHTS)
        require_choice("dtype", self.dtype, POLICY_DTYPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecipe:
    """Episodes in the simulation during the training.

    Attributes:
        every_steps: Steps between two rollouts; 0 for none.
        episodes: Episodes of each.
        actions_per_inference: Actions of a chunk that are executed before the next inference.
    """

    every_steps: int = 0
    episodes: int = 10
    actions_per_inference: int = 8

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.every_steps != 0:
            require_count("every_steps", self.every_steps)
        require_count("episodes", self.episodes)
        require_count("actions_per_inference", self.actions_per_inference)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecipe:
    """One of several datasets.

    Attributes:
        path: Folder of the LeRobotDataset.
        contract: Name or path of the contract that it was recorded with; None for the recipe's.
        weight: How often a batch is of it, relative to the others.
    """

    path: str
    contract: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_text("path", self.path)
        if self.contract is not None:
            require_text("contract", self.contract)
        require_positive("weight", self.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecipe:
    """Images that are decoded when they are trained on, instead of being kept in memory.

    Attributes:
        readers: Episodes that are decoded at the same time; 0 keeps all images in memory.
        buffer_size: Frames of all readers from which the next batch is drawn.
        cached_frames: Frames that stay in memory when they were decoded, in each process.
    """

    readers: int = 0
    buffer_size: int = 2048
    cached_frames: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.readers != 0:
            require_count("readers", self.readers)
        require_count("buffer_size", self.buffer_size)
        if self.cached_frames != 0:
            require_count("cached_frames", self.cached_frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraRecipe:
    """Low-rank adapters beside the linear layers of the backbone (arXiv:2106.09685).

    Attributes:
        rank: Rank of the adapters; 0 for none.
        alpha: Their scale times `rank`; None for `rank`.
        dropout: Before an adapter, in [0, 1).
    """

    rank: int = 0
    alpha: float | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.rank != 0:
            require_count("rank", self.rank)
        if self.alpha is not None:
            require_positive("alpha", self.alpha)
        require_fraction("dropout", self.dropout)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecipe:
    """One stage of a curriculum: what is trained on until the next one begins.

    Attributes:
        from_step: First step of the stage.
        horizon: Actions of a chunk that count, from its first; None for all.
        episodes: First episode, and the one after the last; None for all.
        instruction: Words that the instruction must contain; None for any.
    """

    from_step: int
    horizon: int | None = None
    episodes: Sequence[int] | None = None
    instruction: str | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.from_step != 0:
            require_count("from_step", self.from_step)
        if self.horizon is not None:
            require_count("horizon", self.horizon)
        if self.instruction is not None:
            require_text("instruction", self.instruction)
        if self.episodes is not None and not _is_range(self.episodes):
            raise ConfigError(
                "episodes must be [first, one after the last], two rising whole numbers, "
                f"got {self.episodes!r}."
            )


def _is_range(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(end, int) for end in value)
        and 0 <= value[0] < value[1]
    )
