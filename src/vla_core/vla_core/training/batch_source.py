# SPDX-License-Identifier: MIT
"""Where batches come from: one dataset, its order, and what the model sees of its frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from vla_core.dataset.reader import EpisodeDataset
from vla_core.errors import ConfigError
from vla_core.models.frameworks import AbstractVLA
from vla_core.processing.augmentation import NUM_DRAWS, ImageAugmentation
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.training.batches import StreamedOrder
from vla_core.training.curriculum import Curriculum
from vla_core.training.frame_inputs import (
    FeaturesAndImages,
    FrameInputs,
    StreamedImages,
    cache_features,
    store_images,
)
from vla_core.training.open_loop import open_loop_error
from vla_core.training.plan_ages import PlanAges, plan_ages_of
from vla_core.training.progress import ProgressDisplay
from vla_core.training.recipe import TrainRecipe
from vla_core.training.training_data import load_training_data

_IMAGES = ("images", "plan_images", "history_images")
_WORDS_ALONE = 0.1


class BatchSource:
    """Gives the batches of one dataset, in an order that a resumed run continues exactly.

    What is random about a row depends on the seed, the step and the place of the row in the batch
    of all processes, so that any number of processes trains on the same.

    Args:
        recipe: Order, curriculum and augmentation.
        dataset: The episodes.
        pipeline: Normalises, and resizes the images as the robot will.
        space: Name of the model's space of state and action; None for its first one.

    Attributes:
        dataset: The episodes.
        pipeline: What the policy gets.

    Raises:
        ConfigError: There are fewer frames than a batch needs.
        DatasetError: The dataset is damaged, or no episode is left to train on.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        dataset: EpisodeDataset,
        pipeline: ProcessingPipeline,
        space: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.pipeline = pipeline
        self._recipe = recipe
        self._space = space
        self._data = load_training_data(dataset, pipeline, recipe.validation.fraction, recipe.seed)
        self._curriculum = Curriculum(
            recipe.curriculum,
            self._data.train_frames,
            dataset.episode_lengths,
            self._data.texts,
            recipe.batch_size,
            recipe.seed,
            self._order() if recipe.stream.readers else None,
        )
        self._inputs: FrameInputs | None = None
        self._held_out: FrameInputs | None = None
        self._plan_ages: PlanAges | None = None

    @property
    def inputs(self) -> FrameInputs:
        """What the model sees of each frame; there after ``prepare``."""
        assert self._inputs is not None
        return self._inputs

    def require_validation(self) -> None:
        """Refuse to hold out episodes of which none is of the curriculum's last stage.

        Raises:
            ConfigError: So it is, and nothing could be validated.
        """
        fraction = self._recipe.validation.fraction
        if fraction > 0 and len(self._validation_frames()) == 0:
            raise ConfigError(
                f"validation.fraction is {fraction}, but no episode that it holds out is of the "
                "last stage of the curriculum; hold out more, or set validation.fraction=0."
            )

    def prepare(self, model: AbstractVLA, console: Console) -> None:
        """Read the images, or compute their features, for a model on its device.

        Raises:
            ConfigError: The model does not fit what is kept.
            DatasetError: A frame is damaged.
        """
        if self._recipe.stream.readers:
            cached = self._recipe.stream.cached_frames
            self._inputs = self._stream(keeps_skipped=True, cached_frames=cached)
            self._held_out = self._stream(keeps_skipped=False)
        else:
            self._inputs = self._held_out = self._read(model, console)
        self._plan_ages = plan_ages_of(model, self._inputs, self.dataset.episode_lengths)

    def next_frames(self, step: int) -> Tensor:
        """Return the frames of the batch of a step, of all processes together, int64 [B]."""
        return self._curriculum.next_batch(step)

    def batch(self, frames: Tensor, rows: Tensor, step: int) -> dict[str, Any]:
        """Return the keywords of ``forward``.

        Args:
            frames: Frames of a part of the batch, int64 [b].
            rows: Their places in the batch of the step, int64 [b].
            step: Steps that were trained before.
        """
        batch = self.inputs.inputs(frames) | self._data.states(frames)
        batch |= self._data.targets(frames)
        batch["action_is_pad"] = self._is_pad(frames, step)
        if "task_id" in batch:
            batch["task_id"] = self._some_without_id(batch["task_id"], rows, step)
        if self._space is not None:
            batch["space"] = self._space
        if self._plan_ages is not None:
            batch |= self._plan_ages.inputs(frames)
        if self._recipe.augmentation != ImageAugmentation():
            batch |= self._augmented(batch, rows, step)
        return batch

    def count_valid(self, frames: Tensor, step: int) -> int:
        """Return how many actions of the chunks of frames, int64 [b], count in a step."""
        return int((~self._is_pad(frames, step)).sum())

    def validate(self, model: AbstractVLA) -> dict[str, Any] | None:
        """Return the open-loop error on held-out episodes, or None if none are held out."""
        frames = self._validation_frames()
        if len(frames) == 0:
            return None
        assert self._held_out is not None
        return open_loop_error(
            model,
            self._held_out,
            self._data,
            frames,
            batch_size=self._recipe.batch_size,
            seed=self._recipe.seed,
        )

    def state_dict(self) -> list[dict[str, int]]:
        """Return the position in the order."""
        return self._curriculum.state_dict()

    def load_state_dict(self, state: list[dict[str, int]]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._curriculum.load_state_dict(state)

    def _order(self) -> StreamedOrder:
        stream = self._recipe.stream
        lengths = self.dataset.episode_lengths
        return StreamedOrder(lengths, self._recipe.batch_size, stream.readers, stream.buffer_size)

    def _stream(self, *, keeps_skipped: bool, cached_frames: int = 0) -> StreamedImages:
        return StreamedImages(
            self.dataset,
            self.pipeline,
            self._data.texts,
            keeps_skipped=keeps_skipped,
            cached_frames=cached_frames,
        )

    def _read(self, model: AbstractVLA, console: Console) -> FrameInputs:
        dataset, pipeline = self.dataset, self.pipeline
        features = None
        if self._recipe.cache_features:
            with ProgressDisplay(
                console, "encoding", dataset.num_frames, unit="frames"
            ) as display:
                features = cache_features(model, dataset, pipeline, display.advance)
            if not model.looks_beside_vlm:
                return features
        with ProgressDisplay(console, "reading", dataset.num_frames, unit="frames") as display:
            images = store_images(
                dataset, pipeline, self._data.texts, display.advance, self._data.history_index
            )
        return images if features is None else FeaturesAndImages(features, images)

    def _is_pad(self, frames: Tensor, step: int) -> Tensor:
        """Return which actions of the chunks do not count in a step, bool [b, K]."""
        is_pad = self._data.is_pad[frames]
        horizon = self._curriculum.horizon(step)
        return is_pad if horizon is None else is_pad | (torch.arange(is_pad.shape[1]) >= horizon)

    def _some_without_id(self, task_ids: Tensor, rows: Tensor, step: int) -> Tensor:
        """Take some ids away: an instruction in other words has none, and must be understood."""
        random = np.random.default_rng([self._recipe.seed, step, 1])
        draws = torch.from_numpy(random.random(self._recipe.batch_size, np.float32))[rows]
        return torch.where(draws < _WORDS_ALONE, -1, task_ids)

    def _augmented(self, batch: dict[str, Any], rows: Tensor, step: int) -> dict[str, Tensor]:
        """Return the images of a batch, those of one camera and row changed alike at all times."""
        shape = (self._recipe.batch_size, len(self.pipeline.contract.cameras), NUM_DRAWS)
        random = np.random.default_rng([self._recipe.seed, step])
        draws = torch.from_numpy(random.random(shape, np.float32))[rows]
        images = {name: batch[name] for name in _IMAGES if name in batch}
        for name, value in images.items():
            steps = draws[:, None] if name == "history_images" else draws
            numbers = steps.expand(*value.shape[:-3], NUM_DRAWS)
            images[name] = self._recipe.augmentation.apply(value, numbers)
        return images

    def _validation_frames(self) -> Tensor:
        frames = self._curriculum.goal(self._data.validation_frames)
        count = min(self._recipe.validation.max_frames, len(frames))
        return frames[torch.linspace(0, len(frames) - 1, count).round().long()]
