# SPDX-License-Identifier: MIT
"""What a model sees of each frame: features that were computed once, or the images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_core.dataset.frame_store import FrameStore
from vla_core.dataset.reader import Episode, EpisodeDataset
from vla_core.errors import ConfigError
from vla_core.models.frameworks import AbstractVLA
from vla_core.models.vlm.base import VLMOutput
from vla_core.models.vlm.prefix import VLMPrefix
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.training.failures import require_memory

_ENCODED_AT_ONCE = 32

_FEATURES_IN_MEMORY = (
    "the features of all frames",
    "set cache_features=false, which keeps the images instead, or train on fewer episodes",
)
_IMAGES_IN_MEMORY = (
    "the images of all frames",
    "set stream.readers=4, which decodes them when they are needed, or lower image_size",
)
_CACHED_IMAGES = ("the images of stream.cached_frames", "lower it, or image_size")

OnFrames = Callable[[int], None]


class FrameInputs(Protocol):
    """Gives the model its inputs for any frames of the dataset."""

    def inputs(self, frames: Tensor) -> dict[str, Any]:
        """Return the keywords of ``forward`` and ``predict_action`` for frames, int64 [B]."""


@dataclass(frozen=True, eq=False)
class CachedFeatures:
    """What a frozen VLM made of every frame with its instruction, float16 [F, ...].

    Attributes:
        output: Its tokens, or a prefix with the keys and values of all its layers.
    """

    output: VLMOutput | VLMPrefix

    def inputs(self, frames: Tensor) -> dict[str, Any]:
        """Return the features in the place of images."""
        keyword = "vlm_features" if isinstance(self.output, VLMOutput) else "prefix"
        return {"images": None, keyword: self.output.rows(frames).to("cpu", torch.float32)}


@dataclass(frozen=True, eq=False)
class StoredImages:
    """What every frame shows and says.

    Attributes:
        images: Resized images, uint8 [F, N, 3, h, w].
        texts: Instructions.
        history_index: Earlier frames of each, int64 [F, H]; None for a model without history.
    """

    images: Tensor
    texts: list[str]
    history_index: Tensor | None = None

    def inputs(self, frames: Tensor) -> dict[str, Any]:
        """Return images in [0, 1], those of the history if there is one, and texts."""
        inputs = {
            "images": self.images[frames].float().div_(255.0),
            "text": [self.texts[frame] for frame in frames.tolist()],
        }
        if self.history_index is not None and self.history_index.shape[1]:
            earlier = self.images[self.history_index[frames]]
            inputs["history_images"] = earlier.float().div_(255.0)
        return inputs


class StreamedImages:
    """Resized images of any frame, decoded when they are asked for.

    Args:
        dataset: The episodes.
        pipeline: Resizes the images as the robot will.
        texts: Instruction of every frame.
        keeps_skipped: Whether frames that are passed over will be asked for, as in training.
        cached_frames: Frames that stay in memory when they were decoded.

    Raises:
        TrainingError: They would not fit.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        pipeline: ProcessingPipeline,
        texts: list[str],
        *,
        keeps_skipped: bool,
        cached_frames: int = 0,
    ) -> None:
        lengths = torch.as_tensor(dataset.episode_lengths)
        self._ends = lengths.cumsum(0)
        self._starts = self._ends - lengths
        self._pipeline = pipeline
        self._texts = texts
        require_memory(
            min(cached_frames, dataset.num_frames) * math.prod(_image_size(pipeline)),
            *_CACHED_IMAGES,
        )
        self._store = FrameStore(
            dataset,
            self._resized,
            pipeline.history_length,
            keeps_skipped=keeps_skipped,
            cached_frames=cached_frames,
        )

    def inputs(self, frames: Tensor) -> dict[str, Any]:
        """Return images in [0, 1], those of the history if there is one, and texts."""
        episodes = torch.searchsorted(self._ends, frames, right=True)
        places = (frames - self._starts[episodes]).tolist()
        windows = [
            torch.stack(self._store.window(episode, place))
            for episode, place in zip(episodes.tolist(), places, strict=True)
        ]
        images = torch.stack(windows).float().div_(255.0)
        inputs = {
            "images": images[:, -1],
            "text": [self._texts[frame] for frame in frames.tolist()],
        }
        return inputs if images.shape[1] == 1 else inputs | {"history_images": images[:, :-1]}

    def _resized(self, frames: dict[str, NDArray[np.uint8]]) -> Tensor:
        images = self._pipeline.to_images({name: frame[None] for name, frame in frames.items()})
        return images[0].mul_(255.0).round_().to(torch.uint8)


@dataclass(frozen=True, eq=False)
class FeaturesAndImages:
    """Both, for a model of which another part than the VLM reads the images."""

    features: CachedFeatures
    images: StoredImages

    def inputs(self, frames: Tensor) -> dict[str, Any]:
        """Return the features beside images and texts."""
        return self.features.inputs(frames) | self.images.inputs(frames)


def can_cache_features(model: AbstractVLA) -> bool:
    """Return whether the features of a model's VLM never change and can be fed back to it."""
    return _encoder_of(model) is not None and model.vlm.is_frozen


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
            f"cache_features needs a frozen VLM, which {type(model).__name__} has not; set "
            "cache_features=false or, where it has one, model.freeze_vlm=true."
        )
    encode = _encoder_of(model)
    assert encode is not None
    device = next(model.parameters()).device
    stored: VLMOutput | VLMPrefix | None = None
    start = 0
    for episode, part in _parts(dataset):
        images = pipeline.to_images({name: f[part] for name, f in episode.images.items()})
        output = encode(images.to(device), episode.task)
        if stored is None:
            require_memory(dataset.num_frames * _bytes_per_row(output), *_FEATURES_IN_MEMORY)
            stored = _map_tensors(partial(_empty_rows, dataset.num_frames), output)
        stop = start + len(output.mask)
        _map_tensors(partial(_write_rows, slice(start, stop)), stored, output)
        on_frames(stop - start)
        start = stop
    assert stored is not None
    return CachedFeatures(stored)


def _encoder_of(model: AbstractVLA) -> Callable[..., VLMOutput | VLMPrefix] | None:
    encode = getattr(model, "encode_vlm", getattr(model, "encode_prefix", None))
    return cast("Callable[..., VLMOutput | VLMPrefix] | None", encode)


def _map_tensors(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """Apply a function to every tensor in a dataclass and its tuples, and keep what is none."""
    if isinstance(value, Tensor):
        return function(value, *others)
    if isinstance(value, tuple):
        return tuple(_map_tensors(function, *parts) for parts in zip(value, *others, strict=True))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    names = [field.name for field in fields(value)]
    parts = {
        name: _map_tensors(function, *(getattr(part, name) for part in (value, *others)))
        for name in names
    }
    return replace(value, **parts)


def _empty_rows(count: int, example: Tensor) -> Tensor:
    dtype = torch.float16 if example.is_floating_point() else example.dtype
    return torch.empty((count, *example.shape[1:]), dtype=dtype)


def _bytes_per_row(output: VLMOutput | VLMPrefix) -> int:
    sizes: list[int] = []
    _map_tensors(lambda tensor: sizes.append(_empty_rows(1, tensor).nbytes), output)
    return sum(sizes)


def _write_rows(rows: slice, stored: Tensor, part: Tensor) -> Tensor:
    stored[rows] = part
    return stored


def store_images(
    dataset: EpisodeDataset,
    pipeline: ProcessingPipeline,
    texts: list[str],
    on_frames: OnFrames,
    history_index: Tensor | None = None,
) -> StoredImages:
    """Resize the images of every frame and keep them in memory.

    Args:
        dataset: The episodes.
        pipeline: Resizes the images as the robot will.
        texts: Instruction of every frame.
        on_frames: Called with the number of frames after each that were read.
        history_index: Earlier frames of each, int64 [F, H]; None for none.
    """
    size = (dataset.num_frames, *_image_size(pipeline))
    require_memory(math.prod(size), *_IMAGES_IN_MEMORY)
    stored = torch.empty(size, dtype=torch.uint8)
    start = 0
    for episode, part in _parts(dataset):
        images = pipeline.to_images({name: f[part] for name, f in episode.images.items()})
        stored[start : start + len(images)] = images.mul_(255.0).round_()
        on_frames(len(images))
        start += len(images)
    return StoredImages(stored, texts, history_index)


def _image_size(pipeline: ProcessingPipeline) -> tuple[int, ...]:
    """Return the shape of the resized images of a frame, [N, 3, h, w]."""
    return (len(pipeline.contract.cameras), 3, pipeline.image_size, pipeline.image_size)


def _parts(dataset: EpisodeDataset) -> Iterator[tuple[Episode, slice]]:
    for episode in dataset:
        for start in np.arange(0, len(episode.actions), _ENCODED_AT_ONCE).tolist():
            yield episode, slice(start, start + _ENCODED_AT_ONCE)
