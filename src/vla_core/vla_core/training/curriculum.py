# SPDX-License-Identifier: MIT
"""A curriculum: ordered stages, each with its own data and its own part of the chunk."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vla_core.errors import ConfigError
from vla_core.processing.value_checks import quoted
from vla_core.training.batches import BatchSampler, Order
from vla_core.training.recipe_sections import StageRecipe

_MOST_NAMED = 8  # instructions in an error


class Curriculum:
    """Draws the batch of each step from the frames of its stage.

    Args:
        stages: In order; none for one stage with everything.
        frames: Indices of the frames to train on, int64 [F].
        episode_lengths: Frames of each episode of the dataset.
        texts: Instruction of every frame of the dataset.
        batch_size: Frames per batch.
        seed: Of the order.
        order: Puts the frames of an epoch in order; None for any order.

    Raises:
        ConfigError: A stage has fewer frames than a batch needs.
    """

    def __init__(
        self,
        stages: Sequence[StageRecipe],
        frames: Tensor,
        episode_lengths: Sequence[int],
        texts: Sequence[str],
        batch_size: int,
        seed: int,
        order: Order | None = None,
    ) -> None:
        self._stages = tuple(stages) or (StageRecipe(from_step=0),)
        lengths = torch.as_tensor(episode_lengths)
        episodes = torch.arange(len(lengths)).repeat_interleave(lengths)
        self._goal = _belongs(self._stages[-1], episodes, texts)
        self._samplers = []
        for number, stage in enumerate(self._stages):
            chosen = frames[_belongs(stage, episodes, texts)[frames]]
            if len(frames) and not len(chosen):
                raise ConfigError(
                    f"curriculum.{number}: none of the {len(frames)} training frames belongs to "
                    f"it ({_describe(stage)}); instructions of the dataset are "
                    f"{quoted(sorted(set(texts))[:_MOST_NAMED])}. Change the stage, or train on "
                    "all frames with curriculum=[]."
                )
            try:
                sampler = BatchSampler(chosen, batch_size, seed + 104_729 * number, order)
            except ConfigError as error:
                where = f"curriculum.{number}: " if stages else ""
                raise ConfigError(f"{where}{error}") from None
            self._samplers.append(sampler)

    def next_batch(self, step: int) -> Tensor:
        """Return the frames of a step, int64 [B]."""
        return self._samplers[self._number(step)].next_batch()

    def horizon(self, step: int) -> int | None:
        """Return how many actions of a chunk count in a step; None for all."""
        return self._stages[self._number(step)].horizon

    def goal(self, frames: Tensor) -> Tensor:
        """Return those of frames, int64 [V], that the last stage is about."""
        return frames[self._goal[frames]]

    def state_dict(self) -> list[dict[str, int]]:
        """Return the position in the order of each stage."""
        return [sampler.state_dict() for sampler in self._samplers]

    def load_state_dict(self, states: Sequence[dict[str, int]]) -> None:
        """Continue where ``state_dict`` was taken."""
        for sampler, state in zip(self._samplers, states, strict=True):
            sampler.load_state_dict(state)

    def _number(self, step: int) -> int:
        return sum(stage.from_step <= step for stage in self._stages) - 1


def _describe(stage: StageRecipe) -> str:
    chosen = {"episodes": stage.episodes, "instruction": stage.instruction}
    return ", ".join(f"{key} {value}" for key, value in chosen.items() if value is not None)


def _belongs(stage: StageRecipe, episodes: Tensor, texts: Sequence[str]) -> Tensor:
    """Return which frames of the dataset a stage is about, bool."""
    belongs = torch.ones(len(episodes), dtype=torch.bool)
    if stage.episodes is not None:
        first, end = stage.episodes
        belongs &= (episodes >= first) & (episodes < end)
    if stage.instruction is not None:
        words = stage.instruction.lower()
        belongs &= torch.tensor([words in text.lower() for text in texts])
    return belongs
