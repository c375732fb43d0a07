# SPDX-License-Identifier: MIT
"""Old plans in training: the planner of a policy sees an earlier frame of the episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vla_core.errors import ConfigError
from vla_core.models.frameworks import AbstractVLA
from vla_core.training.frame_inputs import FeaturesAndImages, FrameInputs, StoredImages


class PlanAges:
    """Draws for every row how many frames ago its plan was made.

    Ages are uniform from 0 to the model's `plan_max_age`, cut at the start of the episode. They
    come from PyTorch's global generator, which a resumed run restores.

    Args:
        seen: What is kept of every frame of the dataset.
        episode_lengths: Frames of each episode.
        max_age: Largest age, frames.
    """

    def __init__(
        self, seen: StoredImages | FeaturesAndImages, episode_lengths: Sequence[int], max_age: int
    ) -> None:
        lengths = torch.as_tensor(episode_lengths)
        self._starts = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        self._seen = seen
        self._max_age = max_age

    def inputs(self, frames: Tensor) -> dict[str, Any]:
        """Return what the planners of frames, int64 [B], see, and the `plan_age` of that.

        It is `plan_images`, or the `vlm_features` of these where they are kept.
        """
        drawn = torch.randint(self._max_age + 1, frames.shape)
        age = torch.minimum(drawn, frames - self._starts[frames])
        if isinstance(self._seen, FeaturesAndImages):
            features = self._seen.features.inputs(frames - age)["vlm_features"]
            return {"vlm_features": features, "plan_age": age}
        return {"plan_images": self._seen.inputs(frames - age)["images"], "plan_age": age}


def plan_ages_of(
    model: AbstractVLA, inputs: FrameInputs, episode_lengths: Sequence[int]
) -> PlanAges | None:
    """Return what draws the ages for a model, or None if its plans are never old.

    Raises:
        ConfigError: If nothing of earlier frames is kept.
    """
    max_age = getattr(model, "plan_max_age", 0)
    if not max_age:
        return None
    if not isinstance(inputs, (StoredImages, FeaturesAndImages)):
        raise ConfigError(
            f"plan_max_age is {max_age}, which needs the images of earlier frames in memory; set "
            "cache_features=false and stream.readers=0."
        )
    return PlanAges(inputs, episode_lengths, max_age)
