# SPDX-License-Identifier: MIT
"""Copy datasets of other formats into a LeRobotDataset v3.0, episode by episode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_core.dataset import format as lerobot
from vla_core.dataset.format import ACTION, IMAGE_PREFIX, STATE, Feature
from vla_core.dataset.reader import EpisodeDataset
from vla_core.dataset.writer import EpisodeWriter
from vla_core.errors import DatasetError

_SUFFIXES = (".hdf5", ".h5")


def writable_features(dataset: EpisodeDataset, storage: str | None) -> dict[str, Feature]:
    """Return the columns of a dataset as a writer takes them.

    Args:
        dataset: What is to be copied.
        storage: ``image`` or ``video``; None: as the dataset has it.
    """
    features = {}
    for key, feature in dataset.features.items():
        if key in lerobot.INDEX_FEATURES:
            continue
        if lerobot.is_camera(feature):
            features[key] = replace(feature, dtype=storage or feature.dtype, info={})
        elif len(feature.shape) == 1 and np.dtype(feature.dtype).kind in "fiub":
            features[key] = feature
    return features


def copy_dataset(
    dataset: EpisodeDataset, writer: EpisodeWriter, *, skip_bad: bool = False
) -> Iterator[str]:
    """Copy every episode with its columns and facts.

    Args:
        dataset: What is copied.
        writer: Its columns are those of ``writable_features``.
        skip_bad: Leave out episodes that cannot be read, instead of stopping.

    Yields:
        What is wrong with each episode, '' if it was copied.

    Raises:
        DatasetError: An episode is damaged.
    """
    columns = [
        key
        for key, feature in writable_features(dataset, None).items()
        if not lerobot.is_camera(feature)
    ]
    for index in range(dataset.num_episodes):
        try:
            vectors = dict(zip(columns, dataset.vectors(index, *columns), strict=True))
            frames = dataset.frames(index)
            facts = {
                key: value
                for key, value in dataset.metadata(index).items()
                if isinstance(value, (str, int, float, bool))
            }
            _copy_episode(writer, frames, vectors, dataset.tasks[index], facts)
        except DatasetError as error:
            if not skip_bad:
                raise
            yield f"episode {dataset.episode_numbers[index]}: {error}"
        else:
            yield ""


def find_act_files(source: Path) -> list[Path]:
    """Return the episode files of a folder in the order of their numbers, or the file itself."""
    if source.is_file():
        return [source] if source.suffix in _SUFFIXES else []
    files = [path for path in source.glob("*") if path.suffix in _SUFFIXES]
    return sorted(files, key=lambda path: (len(path.stem), path.stem))


def act_features(path: Path, storage: str) -> dict[str, Feature]:
    """Return the columns of ACT's episodes, as the first one has them.

    Raises:
        DatasetError: It cannot be read.
    """
    # h5py is needed for this format only.
    from vla_core.dataset.act_hdf5 import ActEpisode

    with ActEpisode(path) as episode:
        first = next(episode.frames())
        features = {
            f"{IMAGE_PREFIX}{name}": Feature(storage, frame.shape, ("height", "width", "channels"))
            for name, frame in first.items()
        }
        for key, values in ((STATE, episode.state), (ACTION, episode.actions)):
            features[key] = Feature("float32", (values.shape[1],))
    return features


def copy_act_episodes(
    files: list[Path],
    writer: EpisodeWriter,
    task: str,
    *,
    is_bgr: bool = False,
    skip_bad: bool = False,
) -> Iterator[str]:
    """Copy episodes of ACT.

    Args:
        files: HDF5 files.
        writer: Its columns are those of ``act_features``.
        task: The instruction, which ACT does not store.
        is_bgr: Whether the stored images have blue first.
        skip_bad: Leave out episodes that cannot be read, instead of stopping.

    Yields:
        What is wrong with each episode, '' if it was copied.

    Raises:
        DatasetError: An episode is damaged.
    """
    from vla_core.dataset.act_hdf5 import ActEpisode

    for path in files:
        try:
            with ActEpisode(path, is_bgr=is_bgr) as episode:
                vectors = {STATE: episode.state, ACTION: episode.actions}
                _copy_episode(writer, episode.frames(), vectors, task, {"source": path.name})
        except DatasetError as error:
            if not skip_bad:
                raise
            yield str(error)
        else:
            yield ""


def _copy_episode(
    writer: EpisodeWriter,
    frames: Iterator[Mapping[str, NDArray[np.uint8]]],
    vectors: Mapping[str, NDArray[np.generic]],
    task: str,
    facts: Mapping[str, str | int | float | bool],
) -> None:
    episode = writer.begin_episode()
    try:
        for row, images in enumerate(frames):
            values = {key: np.atleast_1d(column[row]) for key, column in vectors.items()}
            values |= {f"{IMAGE_PREFIX}{name}": frame for name, frame in images.items()}
            episode.add_frame(values)
        episode.finish(task, facts)
    except BaseException:
        episode.discard()
        raise
