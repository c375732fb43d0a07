# SPDX-License-Identifier: MIT
"""Gather staged episodes into the files of the LeRobotDataset v3.0 format."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_core.dataset import format as lerobot
from vla_core.dataset.format import Feature
from vla_core.dataset.staging import (
    FRAMES_NAME,
    read_record,
    read_staged_frames,
    video_file,
)
from vla_core.dataset.statistics import image_statistics, vector_statistics


def gather_episodes(
    root: Path, staged: Sequence[Path], features: Mapping[str, Feature], info: dict[str, Any]
) -> None:
    """Write data, episode table, tasks, statistics and ``info.json`` of a dataset.

    Args:
        root: Folder that becomes the dataset.
        staged: The folder of each episode, in order.
        features: Columns of the staged episodes.
        info: Content of ``info.json``; its totals are filled in.

    Raises:
        DatasetError: A staged file is damaged.
    """
    _Gathering(root, dict(features), info).run(staged)


class _Gathering:
    """Moves staged episodes into the files of the format and writes the metadata."""

    def __init__(self, root: Path, features: dict[str, Feature], info: dict[str, Any]) -> None:
        self._root = root
        self._features = features
        self._info = info
        self._schema = lerobot.frame_schema(features | lerobot.INDEX_FEATURES)
        self._rows: list[dict[str, Any]] = []
        self._tasks: dict[str, int] = {}
        self._vectors: dict[str, list[NDArray[Any]]] = {}
        self._histograms: dict[str, NDArray[np.int64]] = {}
        self._sampled_frames: dict[str, int] = {}

    def run(self, staged: Sequence[Path]) -> None:
        where = (0, 0)
        limit = self._info["data_files_size_in_mb"] * 1024**2
        size, writer = 0, None
        try:
            for path in staged:
                num_bytes = (path / FRAMES_NAME).stat().st_size
                if writer is not None and size + num_bytes > limit:
                    writer.close()
                    size, writer, where = 0, None, lerobot.next_file(*where)
                if writer is None:
                    writer = self._open_data_file(where)
                writer.write_table(self._add(path, where))
                size += num_bytes
        finally:
            if writer is not None:
                writer.close()
        self._write_metadata()

    def _open_data_file(self, where: tuple[int, int]) -> pq.ParquetWriter:
        path = self._root / lerobot.DATA_PATH.format(chunk_index=where[0], file_index=where[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        return pq.ParquetWriter(
            path, self._schema, use_dictionary=False, write_statistics=list(lerobot.INDEX_FEATURES)
        )

    def _add(self, path: Path, where: tuple[int, int]) -> pa.Table:
        record = read_record(path)
        table = read_staged_frames(path)
        episode = len(self._rows)
        start = self._rows[-1]["dataset_to_index"] if self._rows else 0
        frames = np.arange(len(table))
        task_index = self._tasks.setdefault(record["task"], len(self._tasks))
        indices = {
            "timestamp": (frames / self._info["fps"]).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(len(table), episode),
            "index": frames + start,
            "task_index": np.full(len(table), task_index),
        }
        self._rows.append(
            {
                "episode_index": episode,
                "tasks": [record["task"]],
                "length": len(table),
                "data/chunk_index": where[0],
                "data/file_index": where[1],
                "dataset_from_index": start,
                "dataset_to_index": start + len(table),
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                **record["extra"],
                **self._place_videos(path, episode, len(table)),
                **self._statistics(table, indices, record["histograms"]),
            }
        )
        columns = [table[key] for key in table.column_names]
        return pa.Table.from_arrays(
            columns + [pa.array(value) for value in indices.values()], schema=self._schema
        )

    def _place_videos(self, staged: Path, episode: int, num_frames: int) -> dict[str, Any]:
        """Give an episode a video file of its own per camera, and return where it is."""
        where: dict[str, Any] = {}
        chunk_index, file_index = divmod(episode, lerobot.CHUNKS_SIZE)
        for key, feature in self._features.items():
            if feature.dtype != "video":
                continue
            path = self._root / lerobot.VIDEO_PATH.format(
                video_key=key, chunk_index=chunk_index, file_index=file_index
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not moved: an interrupted gathering begins anew.
            _link_or_copy(video_file(staged, key), path)
            where |= {
                f"videos/{key}/chunk_index": chunk_index,
                f"videos/{key}/file_index": file_index,
                f"videos/{key}/from_timestamp": 0.0,
                f"videos/{key}/to_timestamp": num_frames / self._info["fps"],
            }
        return where

    def _statistics(
        self,
        table: pa.Table,
        indices: Mapping[str, NDArray[Any]],
        histograms: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Any]:
        summaries = {}
        for key, histogram in histograms.items():
            counts, num_frames = np.asarray(histogram["counts"]), histogram["num_frames"]
            summaries[key] = image_statistics(counts, num_frames)
            self._histograms[key] = self._histograms.get(key, 0) + counts
            self._sampled_frames[key] = self._sampled_frames.get(key, 0) + num_frames
        names = [key for key in table.column_names if key not in histograms]
        vectors = {key: lerobot.column_to_numpy(table[key]) for key in names}
        for key, values in [*vectors.items(), *indices.items()]:
            summaries[key] = vector_statistics(values)
            self._vectors.setdefault(key, []).append(values)
        return {
            f"stats/{key}/{name}": value
            for key, summary in summaries.items()
            for name, value in summary.items()
        }

    def _write_metadata(self) -> None:
        keys = list(dict.fromkeys(key for row in self._rows for key in row))
        columns = {key: [row.get(key) for row in self._rows] for key in keys}
        episodes = lerobot.EPISODES_PATH.format(chunk_index=0, file_index=0)
        write_parquet(pa.table(columns), self._root / episodes)
        write_parquet(lerobot.tasks_table(list(self._tasks)), self._root / lerobot.TASKS_PATH)
        stats = {
            key: image_statistics(histogram, self._sampled_frames[key])
            for key, histogram in self._histograms.items()
        } | {key: vector_statistics(np.concatenate(parts)) for key, parts in self._vectors.items()}
        _write_json(stats, self._root / lerobot.STATS_PATH)
        totals = {
            "total_episodes": len(self._rows),
            "total_frames": self._rows[-1]["dataset_to_index"],
            "total_tasks": len(self._tasks),
            "splits": {"train": f"0:{len(self._rows)}"},
        }
        _write_json(self._info | totals, self._root / lerobot.INFO_PATH)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a parquet file that is either complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(table, temporary, use_dictionary=False)
    os.replace(temporary, path)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_json(data: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=4))
