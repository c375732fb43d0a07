# SPDX-License-Identifier: MIT
"""Read a LeRobotDataset v3.0: strict about what it finds, frugal about what it loads."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from vla_core.dataset import format as lerobot
from vla_core.dataset.format import ACTION, IMAGE_PREFIX, STATE, Feature
from vla_core.errors import DatasetError

if TYPE_CHECKING:
    from vla_core.processing.normalization import Statistics


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """One demonstration.

    Attributes:
        images: RGB frames by camera name, uint8 [T, H, W, 3].
        state: Measured joint positions, float32 [T, S].
        actions: Action taken on what was seen at each frame, float32 [T, A].
        task: The instruction.
        metadata: Other columns of the episode table, such as the seed.
    """

    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    task: str
    metadata: dict[str, Any] = field(default_factory=dict)


class EpisodeDataset:
    """A dataset on disk; opening it checks every file, reading loads one episode at a time.

    Args:
        root: Folder of the dataset.

    Raises:
        DatasetError: The dataset is missing, unfinished, damaged, or of another format.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        info = self._read_info()
        self.fps: int = info["fps"]
        self.robot_type: str | None = info.get("robot_type")
        self.features: dict[str, Feature] = {
            key: Feature.from_dict(value) for key, value in info["features"].items()
        }
        for key in (STATE, ACTION, *lerobot.INDEX_FEATURES):
            self._require_feature(key)
        self._data_path: str = info["data_path"]
        self._rows = self._read_episode_table()
        self._files: dict[Path, pq.ParquetFile] = {}
        self._first_index: dict[Path, int] = {}
        self._check_totals(info)

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return len(self._rows)

    @property
    def num_frames(self) -> int:
        """Number of frames of all episodes."""
        return sum(self.episode_lengths)

    @property
    def episode_lengths(self) -> list[int]:
        """Frames of every episode."""
        return [int(row["length"]) for row in self._rows]

    @property
    def camera_names(self) -> list[str]:
        """Names of the cameras, in order."""
        return lerobot.camera_names(self.features)

    @property
    def tasks(self) -> list[str]:
        """Instruction of every episode."""
        return [str(row["tasks"][0]) for row in self._rows]

    def __len__(self) -> int:
        """Return the number of episodes."""
        return self.num_episodes

    def __iter__(self) -> Iterator[Episode]:
        """Read one episode after the other."""
        return (self.episode(index) for index in range(self.num_episodes))

    def episode(self, index: int) -> Episode:
        """Read one episode.

        Args:
            index: Number of the episode, from 0.

        Raises:
            DatasetError: There is no such episode, or its frames are damaged.
        """
        if not 0 <= index < self.num_episodes:
            raise DatasetError(
                f"episode {index} is not in '{self.root}', which has {self.num_episodes}."
            )
        image_keys = [f"{IMAGE_PREFIX}{name}" for name in self.camera_names]
        for key in image_keys:
            if self.features[key].dtype != "image":
                raise DatasetError(
                    f"feature '{key}' of '{self.root}' is stored as {self.features[key].dtype}; "
                    "only images in parquet can be read."
                )
        path, table = self._read_rows(index, [*image_keys, STATE, ACTION, "episode_index"])
        found = set(lerobot.column_to_numpy(table["episode_index"]).tolist())
        if found != {index}:
            raise DatasetError(
                f"'{path}' holds frames of episodes {sorted(found)} "
                f"where meta/episodes says {index}."
            )
        row = self._rows[index]
        return Episode(
            images={
                key[len(IMAGE_PREFIX) :]: self._decode(table[key], key, path) for key in image_keys
            },
            state=lerobot.column_to_numpy(table[STATE]),
            actions=lerobot.column_to_numpy(table[ACTION]),
            task=str(row["tasks"][0]),
            metadata=self.metadata(index),
        )

    def metadata(self, index: int) -> dict[str, Any]:
        """Return the further facts on an episode, such as its seed, without reading its frames."""
        return {
            key: value
            for key, value in self._rows[index].items()
            if key not in lerobot.EPISODE_COLUMNS and "/" not in key and value is not None
        }

    def column(self, key: str) -> NDArray[Any]:
        """Read a scalar or vector column of all frames, without their images.

        Args:
            key: Such as ``'action'``.

        Returns:
            [T] or [T, D] over all frames in order.

        Raises:
            DatasetError: There is no such column, it holds images, or a file is damaged.
        """
        self._require_feature(key)
        if self.features[key].dtype in ("image", "video"):
            raise DatasetError(f"'{key}' holds images; read them with episode().")
        parts = [self._read_rows(index, [key])[1][key] for index in range(self.num_episodes)]
        return np.concatenate([lerobot.column_to_numpy(part) for part in parts])

    def statistics(self, key: str) -> Statistics:
        """Compute the statistics of a vector over all frames.

        Args:
            key: Such as ``'observation.state'``.

        Raises:
            DatasetError: There is no such column, it holds images, or a file is damaged.
        """
        # Reading and writing episodes must not wait for torch, which normalization imports.
        from vla_core.processing.normalization import Statistics

        return Statistics.from_array(self.column(key))

    def _read_info(self) -> dict[str, Any]:
        path = self.root / lerobot.INFO_PATH
        if not path.is_file():
            partial = lerobot.partial_path(self.root)
            if partial.is_dir():
                raise DatasetError(
                    f"dataset '{self.root}' was never finished: its recording was interrupted and "
                    f"lies in '{partial}'; resume or delete it."
                )
            raise DatasetError(
                f"'{self.root}' is no LeRobotDataset: '{lerobot.INFO_PATH}' is missing. Name the "
                f"folder of one, or record it: vla record-sim --output {self.root}"
            )
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DatasetError(f"'{path}' is not valid JSON: {error}.") from error
        needed = ("codebase_version", "fps", "features", "data_path", "total_episodes")
        missing = [key for key in needed if key not in info]
        if missing:
            raise DatasetError(f"'{path}' lacks {', '.join(missing)}.")
        version = str(info["codebase_version"])
        if not version.startswith("v3."):
            raise DatasetError(
                f"'{path}' says codebase_version '{version}', expected v3.x; convert the dataset "
                "with LeRobot's convert_dataset_v21_to_v30."
            )
        return dict(info)

    def _require_feature(self, key: str) -> None:
        if key not in self.features:
            raise DatasetError(
                f"'{self.root / lerobot.INFO_PATH}' has no feature '{key}'; "
                f"available: {', '.join(self.features)}."
            )

    def _read_episode_table(self) -> list[dict[str, Any]]:
        paths = sorted((self.root / lerobot.EPISODES_FOLDER).glob("*/*.parquet"))
        if not paths:
            raise DatasetError(f"'{self.root / lerobot.EPISODES_FOLDER}' holds no parquet file.")
        if not (self.root / lerobot.TASKS_PATH).is_file():
            raise DatasetError(f"'{self.root / lerobot.TASKS_PATH}' is missing.")
        rows: list[dict[str, Any]] = []
        for path in paths:
            file = _open_parquet(path)
            names = file.schema_arrow.names
            missing = [key for key in lerobot.EPISODE_COLUMNS[:7] if key not in names]
            if missing:
                raise DatasetError(f"'{path}' lacks the columns {', '.join(missing)}.")
            columns = [name for name in names if not name.startswith("stats/")]
            rows += _read_table(file, path, list(range(file.num_row_groups)), columns).to_pylist()
        rows.sort(key=lambda row: row["episode_index"])
        if [row["episode_index"] for row in rows] != list(range(len(rows))):
            raise DatasetError(f"'{paths[0].parent}' does not number its episodes 0, 1, 2, ...")
        return rows

    def _check_totals(self, info: dict[str, Any]) -> None:
        if info["total_episodes"] != len(self._rows):
            raise DatasetError(
                f"'{self.root / lerobot.INFO_PATH}' counts {info['total_episodes']} episodes, "
                f"meta/episodes lists {len(self._rows)}."
            )
        listed: dict[Path, int] = {}
        for row in self._rows:
            path = self._data_file(row)
            self._first_index.setdefault(path, int(row["dataset_from_index"]))
            listed[path] = listed.get(path, 0) + int(row["length"])
        for path, num_frames in listed.items():
            if not path.is_file():
                raise DatasetError(f"data file '{path}' is missing.")
            self._files[path] = _open_parquet(path)
            stored = self._files[path].metadata.num_rows
            if stored != num_frames:
                raise DatasetError(
                    f"'{path}' holds {stored} frames, meta/episodes lists {num_frames}."
                )

    def _data_file(self, row: dict[str, Any]) -> Path:
        return self.root / self._data_path.format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )

    def _read_rows(self, index: int, columns: list[str]) -> tuple[Path, pa.Table]:
        row = self._rows[index]
        path = self._data_file(row)
        file = self._files[path]
        missing = [key for key in columns if key not in file.schema_arrow.names]
        if missing:
            raise DatasetError(f"'{path}' lacks the columns {', '.join(missing)}.")
        start = int(row["dataset_from_index"]) - self._first_index[path]
        stop = start + int(row["length"])
        groups, skipped, offset = [], 0, 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if offset + size > start and offset < stop:
                groups.append(group)
            elif offset + size <= start:
                skipped += size
            offset += size
        table = _read_table(file, path, groups, columns)
        return path, table.slice(start - skipped, stop - start)

    def _decode(self, column: pa.ChunkedArray, key: str, path: Path) -> NDArray[np.uint8]:
        shape = self.features[key].shape
        frames = np.empty((len(column), *shape), np.uint8)
        for index, value in enumerate(column):
            try:
                image = Image.open(io.BytesIO(value["bytes"].as_py())).convert("RGB")
                frames[index] = np.asarray(image)
            except (OSError, ValueError, TypeError) as error:
                raise DatasetError(
                    f"frame {index} of '{key}' in '{path}' is no image of shape {list(shape)}: "
                    f"{error}."
                ) from error
        return frames


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"'{path}' is damaged or no parquet file: {error}") from error


def _read_table(
    file: pq.ParquetFile, path: Path, groups: list[int], columns: list[str]
) -> pa.Table:
    try:
        return file.read_row_groups(groups, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"'{path}' is damaged: {error}") from error
