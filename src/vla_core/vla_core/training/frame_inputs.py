# SPDX-License-Identifier: MIT
"""What a model sees of each frame: features that were computed once, or the images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vla_core.dataset.reader import Episode, EpisodeDataset
from vla_core.errors import ConfigError
from vla_core.models.frameworks import AbstractVLA
from vla_core.models.vlm.base import VLMOutput
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.training.failures import require_memory

_ENCODED_AT_ONCE = 32

_FEATURES_IN_MEMORY = (
    "the features of all frames",
    "set cache_features=false, which keeps the images instead, or train on fewer episodes",
)
_IMAGES_IN_MEMORY = (
    "the images of all frames",
    "lower image_size, start fewer processes on this machine, or train on fewer episodes",
)

OnFrames = Callable[[int], None]


class FrameInputs(Protocol):
    """Gives the model its inputs for any frames of the dataset."""

    def inputs(self, frames: Tensor) -> dict[str, Any]:
        """Return the keywords of ``forward`` and ``predict_action`` for frames, int64 [B]."""


@dataclass(frozen=True, eq=False)
class CachedFeatures:
    """Features of a frozen VLM for every frame with its instruction, float16 [F, L, D]."""

    output: VLMOutput

    def inputs(self, frames: Tensor) -> dict[str, Any]:
        """Return the features in the place of images."""
        return {"images": None, "vlm_features": self.output.rows(frames).to("cpu", torch.float32)}


@dataclass(frozen=True, eq=False)
class StoredImages:
    """Resized images of every frame, uint8 [F, N, 3, h, w], and its instruction."""

    images: Tensor
    texts: list[str]

    def inputs(self, frames: Tensor) -> dict[str, Any]:
        """Return images in [0, 1] and texts."""
        return {
            "images": self.images[frames].float().div_(255.0),
            "text": [self.texts[frame] for frame in frames.tolist()],
        }


def can_cache_features(model: AbstractVLA) -> bool:
    """Return whether the features of a model's VLM never change and can be fed back to it."""
    return hasattr(model, "encode_vlm") and model.vlm.is_frozen


@torch.no_grad()
def cache_features(
    model: AbstractVLA, dataset: EpisodeDataset, pipeline: ProcessingPipeline, on_frames: OnFrames
) -> CachedFeatures:
    """Encode every frame once.

    Args:
        model: Its VLM must be frozen.
        dataset: The episodes.
        pipeline: Resizes the images as the robot will.
        on_frames: Called with the number of frames after each that were encoded.

    Raises:
        ConfigError: The VLM is trained, so its features change.
    """
    if not can_cache_features(model):
        raise ConfigError(
            f"cache_features needs a frozen VLM, but {type(model).__name__} trains its own; "
            "set cache_features=false or freeze_vlm=true."
        )
    device = next(model.parameters()).device
    features: Tensor | None = None
    mask: Tensor | None = None
    start = 0
    for episode, part in _parts(dataset):
        images = pipeline.to_images({name: f[part] for name, f in episode.images.items()})
        output = model.encode_vlm(images.to(device), episode.task)  # type: ignore[operator]
        stop = start + len(output.features)
        if features is None or mask is None:
            size = (dataset.num_frames, *output.features.shape[1:])
            require_memory(2 * math.prod(size), *_FEATURES_IN_MEMORY)
            features = torch.empty(size, dtype=torch.float16)
            mask = torch.empty(size[:2], dtype=torch.bool)
        features[start:stop] = output.features
        mask[start:stop] = output.mask
        on_frames(stop - start)
        start = stop
    assert features is not None
    assert mask is not None
    return CachedFeatures(replace(output, features=features, mask=mask))


def store_images(
    dataset: EpisodeDataset, pipeline: ProcessingPipeline, texts: list[str], on_frames: OnFrames
) -> StoredImages:
    """Resize the images of every frame and keep them in memory.

    Args:
        dataset: The episodes.
        pipeline: Resizes the images as the robot will.
        texts: Instruction of every frame.
        on_frames: Called with the number of frames after each that were read.
    """
    side = pipeline.image_size
    size = (dataset.num_frames, len(pipeline.contract.cameras), 3, side, side)
    require_memory(math.prod(size), *_IMAGES_IN_MEMORY)
    stored = torch.empty(size, dtype=torch.uint8)
    start = 0
    for episode, part in _parts(dataset):
        images = pipeline.to_images({name: f[part] for name, f in episode.images.items()})
        stored[start : start + len(images)] = images.mul_(255.0).round_()
        on_frames(len(images))
        start += len(images)
    return StoredImages(stored, texts)


def _parts(dataset: EpisodeDataset) -> Iterator[tuple[Episode, slice]]:
    for episode in dataset:
        for start in np.arange(0, len(episode.actions), _ENCODED_AT_ONCE).tolist():
            yield episode, slice(start, start + _ENCODED_AT_ONCE)
