# SPDX-License-Identifier: MIT
"""A dataset as tensors in memory: states, chunks of actions, and who is held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_core.dataset.chunks import action_chunks, history_windows
from vla_core.dataset.format import ACTION, IMAGE_PREFIX, STATE
from vla_core.dataset.reader import EpisodeDataset
from vla_core.errors import DatasetError
from vla_core.processing.contract import RobotContract
from vla_core.processing.pipeline import ProcessingPipeline


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """What the loss needs beside the images, for every frame of a dataset.

    Attributes:
        pipeline: Normalises; it goes into the checkpoint.
        proprioception: Normalised states, float32 [F, S].
        actions: Normalised actions, float32 [F, A].
        chunk_index: Frames whose actions form the chunk of a frame, int64 [F, K].
        is_pad: True where the episode had already ended, bool [F, K].
        history_index: Earlier frames that the observation of a frame has, int64 [F, H].
        history_is_pad: True where the episode had not begun yet, bool [F, H].
        texts: Instruction of every frame.
        task_ids: Its task id, int64 [F], for a model that has these.
        train_frames: Frames to train on, int64.
        validation_frames: Frames of the episodes held out, int64.
    """

    pipeline: ProcessingPipeline
    proprioception: Tensor
    actions: Tensor
    chunk_index: Tensor
    is_pad: Tensor
    history_index: Tensor
    history_is_pad: Tensor
    texts: list[str]
    task_ids: Tensor | None
    train_frames: Tensor
    validation_frames: Tensor

    def states(self, frames: Tensor) -> dict[str, Tensor]:
        """Return ``proprioception`` of frames, and what else the model takes beside images.

        That is the proprioception of a history, and ids of tasks.
        """
        states = {"proprioception": self.proprioception[frames]}
        if self.history_index.shape[1]:
            states["history_proprioception"] = self.proprioception[self.history_index[frames]]
            states["history_pad_mask"] = self.history_is_pad[frames]
        if self.task_ids is not None:
            states["task_id"] = self.task_ids[frames]
        return states

    def targets(self, frames: Tensor) -> dict[str, Tensor]:
        """Return ``actions`` [B, K, A] and ``action_is_pad`` of frames."""
        return {
            "actions": self.actions[self.chunk_index[frames]],
            "action_is_pad": self.is_pad[frames],
        }


def load_training_data(
    dataset: EpisodeDataset,
    pipeline: ProcessingPipeline,
    validation_fraction: float,
    seed: int,
) -> TrainingData:
    """Read states and actions and split the episodes.

    Args:
        dataset: The episodes.
        pipeline: Normalises; it has the lengths of chunks and histories.
        validation_fraction: Share of the episodes to hold out.
        seed: Of the choice of these episodes.

    Raises:
        DatasetError: A file is damaged, or no episode is left to train on.
    """
    lengths = dataset.episode_lengths
    chunks = action_chunks(lengths, pipeline.chunk_size)
    histories = history_windows(lengths, pipeline.history_length)
    held_out = held_out_episodes(len(lengths), validation_fraction, seed)
    is_held_out = np.repeat(np.isin(np.arange(len(lengths)), held_out), lengths)
    texts = [text for text, n in zip(dataset.tasks, lengths, strict=True) for _ in range(n)]
    return TrainingData(
        pipeline=pipeline,
        proprioception=_to_tensor(pipeline.normalize_state(_read(dataset, STATE))),
        actions=_to_tensor(pipeline.normalize_actions(_read(dataset, ACTION))),
        chunk_index=torch.from_numpy(chunks.index),
        is_pad=torch.from_numpy(chunks.is_pad),
        history_index=torch.from_numpy(histories.index),
        history_is_pad=torch.from_numpy(histories.is_pad),
        texts=texts,
        task_ids=pipeline.task_ids(texts) if pipeline.tasks else None,
        train_frames=torch.from_numpy(np.flatnonzero(~is_held_out)),
        validation_frames=torch.from_numpy(np.flatnonzero(is_held_out)),
    )


def require_fit(dataset: EpisodeDataset, contract: RobotContract) -> None:
    """Refuse a dataset that was not recorded with the robot of a contract.

    Raises:
        DatasetError: Listing everything that differs.
    """
    differences = list(_differences(dataset, contract))
    if differences:
        raise DatasetError(
            f"dataset '{dataset.root}' does not fit the contract of '{contract.robot}': "
            f"{'; '.join(differences)}. Record it again, or name the contract that it was "
            "recorded with."
        )


def _differences(dataset: EpisodeDataset, contract: RobotContract) -> Iterator[str]:
    if dataset.fps != contract.action.rate_hz:
        yield f"fps is {dataset.fps}, action.rate_hz {contract.action.rate_hz}"
    for name, camera in contract.cameras.items():
        feature = dataset.features.get(f"{IMAGE_PREFIX}{name}")
        if feature is None:
            recorded = ", ".join(dataset.camera_names) or "none"
            yield f"camera '{name}' was not recorded (recorded: {recorded})"
        elif feature.shape != (camera.height, camera.width, 3):
            expected = [camera.height, camera.width, 3]
            yield f"images of '{name}' are {list(feature.shape)}, expected {expected}"
    for key, names in ((STATE, contract.state_names), (ACTION, contract.action_names)):
        feature = dataset.features[key]
        if feature.shape != (len(names),):
            yield f"'{key}' has shape {list(feature.shape)}, expected [{len(names)}]"
        elif feature.names is not None and feature.names != names:
            yield f"'{key}' holds {', '.join(feature.names)}, expected {', '.join(names)}"


def held_out_episodes(num_episodes: int, fraction: float, seed: int) -> NDArray[np.int64]:
    """Choose the episodes that are validated on and never trained on.

    Args:
        num_episodes: Of the dataset.
        fraction: Share of them; at least one if it is not 0.
        seed: Of the choice.

    Raises:
        DatasetError: No episode is left to train on.
    """
    num_held_out = max(round(num_episodes * fraction), 1) if fraction > 0 else 0
    if num_held_out >= num_episodes:
        raise DatasetError(
            f"the dataset has {num_episodes} episodes and validation.fraction is {fraction}, "
            "which leaves none to train on; record more or set validation.fraction=0."
        )
    return np.random.default_rng(seed).permutation(num_episodes)[:num_held_out]


def _read(dataset: EpisodeDataset, key: str) -> NDArray[np.float64]:
    values = dataset.column(key).astype(np.float64)
    if not np.isfinite(values).all():
        frame = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise DatasetError(f"'{key}' of frame {frame} in '{dataset.root}' is NaN or infinite.")
    return values


def _to_tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
