# SPDX-License-Identifier: MIT
"""Read a LeRobotDataset: strict about what it finds, frugal about what it loads."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from vla_core.dataset import format as lerobot
from vla_core.dataset.format import ACTION, IMAGE_PREFIX, STATE, Feature
from vla_core.dataset.layouts import (
    EpisodeEntry,
    VideoPart,
    open_parquet,
    read_entries,
    read_info,
    read_table,
    read_tasks,
)
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
    """A dataset on disk, v3.0, v2.1 or v2.0; reading loads one episode at a time.

    Opening it checks every data file. A damaged episode is an error, unless the caller chooses to
    leave damaged ones out. One whose instruction changes is read as several, one per instruction.

    Args:
        root: Folder of the dataset.
        skip_damaged: Leave out the episodes whose files are missing or cannot be read;
            ``skipped`` names them.

    Attributes:
        root: Folder of the dataset.
        fps: Frames per second.
        robot_type: Name of the robot, None if unknown.
        features: Columns.
        skipped: What is wrong with each episode that was left out, by its number in the files.

    Raises:
        DatasetError: The dataset is missing, unfinished, damaged, or of another format.
    """

    def __init__(self, root: str | Path, *, skip_damaged: bool = False) -> None:
        self.root = Path(root)
        info = read_info(self.root)
        self.version = str(info["codebase_version"])
        self.fps: int = info["fps"]
        self.robot_type: str | None = info.get("robot_type")
        self.features: dict[str, Feature] = {
            key: Feature.from_dict(value) for key, value in info["features"].items()
        }
        for key in (STATE, ACTION, *lerobot.INDEX_FEATURES):
            self._require_feature(key)
        self._files: dict[Path, pq.ParquetFile] = {}
        self.skipped: dict[int, str] = {}
        entries = self._checked(read_entries(self.root, info, self.features), skip_damaged)
        self._entries = entries
        if any(len(entry.tasks) > 1 for entry in entries):
            tasks = read_tasks(self.root, info)
            self._entries = [part for entry in entries for part in self._parts(entry, tasks)]

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return len(self._entries)

    @property
    def num_frames(self) -> int:
        """Number of frames of all episodes."""
        return sum(self.episode_lengths)

    @property
    def episode_lengths(self) -> list[int]:
        """Frames of every episode."""
        return [entry.length for entry in self._entries]

    @property
    def episode_numbers(self) -> list[int]:
        """Number of every episode in the files; not its place where some are left out or split."""
        return [entry.number for entry in self._entries]

    @property
    def camera_names(self) -> list[str]:
        """Names of the cameras, in order."""
        return lerobot.camera_names(self.features)

    @property
    def tasks(self) -> list[str]:
        """Instruction of every episode."""
        return [entry.tasks[0] for entry in self._entries]

    @property
    def instructions(self) -> list[str]:
        """The different instructions, in the order of their ``task_index``.

        Raises:
            DatasetError: A file is damaged.
        """
        first = np.cumsum([0, *self.episode_lengths[:-1]])
        numbers = self.column("task_index")[first]
        places = np.argsort(numbers, kind="stable")
        return list(dict.fromkeys(self.tasks[place] for place in places))

    def __len__(self) -> int:
        """Return the number of episodes."""
        return self.num_episodes

    def __iter__(self) -> Iterator[Episode]:
        """Read one episode after the other."""
        return (self.episode(index) for index in range(self.num_episodes))

    def episode(self, index: int) -> Episode:
        """Read one episode.

        Args:
            index: Place of the episode, from 0.

        Raises:
            DatasetError: There is no such episode, or its frames are damaged.
        """
        entry = self._entry(index)
        table = self._read_rows(entry, [STATE, ACTION, "episode_index"])
        found = set(lerobot.column_to_numpy(table["episode_index"]).tolist())
        if found != {entry.number}:
            raise DatasetError(
                f"'{entry.data_file}' holds frames of episodes {sorted(found)} "
                f"where meta/episodes says {entry.number}."
            )
        images = {
            name: np.empty((entry.length, *self.features[f"{IMAGE_PREFIX}{name}"].shape), np.uint8)
            for name in self.camera_names
        }
        for row, frames in enumerate(self.frames(index)):
            for name, frame in frames.items():
                images[name][row] = frame
        return Episode(
            images=images,
            state=lerobot.column_to_numpy(table[STATE]),
            actions=lerobot.column_to_numpy(table[ACTION]),
            task=entry.tasks[0],
            metadata=dict(entry.metadata),
        )

    def frames(
        self, index: int, cameras: Sequence[str] | None = None
    ) -> Iterator[dict[str, NDArray[np.uint8]]]:
        """Decode the frames of an episode one after the other.

        Args:
            index: Place of the episode, from 0.
            cameras: Names of the cameras; None: all.

        Yields:
            RGB frames by camera name, uint8 [H, W, 3].

        Raises:
            DatasetError: There is no such episode, or its frames are damaged.
        """
        entry = self._entry(index)
        names = self.camera_names if cameras is None else list(cameras)
        for name in names:
            self._require_feature(f"{IMAGE_PREFIX}{name}")
        streams = {name: self._stream(entry, f"{IMAGE_PREFIX}{name}") for name in names}
        for _ in range(entry.length):
            yield {name: next(stream) for name, stream in streams.items()}

    def vectors(self, index: int, *keys: str) -> tuple[NDArray[Any], ...]:
        """Read columns of an episode without its images, each [T] or [T, D].

        Raises:
            DatasetError: There is no such episode or column, or its file is damaged.
        """
        for key in keys:
            self._require_feature(key)
        table = self._read_rows(self._entry(index), list(keys))
        return tuple(lerobot.column_to_numpy(table[key]) for key in keys)

    def metadata(self, index: int) -> dict[str, Any]:
        """Return the further facts on an episode, such as its seed, without reading its frames."""
        return dict(self._entry(index).metadata)

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
        if lerobot.is_camera(self.features[key]):
            raise DatasetError(f"'{key}' holds images; read them with episode().")
        parts = [self._read_rows(entry, [key])[key] for entry in self._entries]
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

    def leave_out(self, problems: Mapping[int, str]) -> None:
        """Leave out episodes, given by their places what is wrong; ``skipped`` names them."""
        self.skipped |= {self._entries[place].number: why for place, why in problems.items()}
        self._entries = [e for place, e in enumerate(self._entries) if place not in problems]

    def find_damaged(self) -> Iterator[tuple[int, str]]:
        """Decode every frame; yield each episode's place and what is wrong, '' if nothing is."""
        for index in range(self.num_episodes):
            try:
                table = self._read_rows(self._entries[index], [STATE, ACTION])
                for key in (STATE, ACTION):
                    if not np.isfinite(lerobot.column_to_numpy(table[key])).all():
                        raise DatasetError(f"'{key}' holds NaN or infinity.")
                for _ in self.frames(index):
                    pass
            except DatasetError as error:
                yield index, str(error)
            else:
                yield index, ""

    def _checked(self, entries: list[EpisodeEntry], skip_damaged: bool) -> list[EpisodeEntry]:
        """Return the episodes whose files are there; the others are skipped or an error."""
        listed: dict[Path, int] = {}
        for entry in entries:
            listed[entry.data_file] = listed.get(entry.data_file, 0) + entry.length
        broken: dict[Path, str] = {}
        for path, num_frames in listed.items():
            try:
                self._open(path, num_frames)
            except DatasetError as error:
                if not skip_damaged:
                    raise
                broken[path] = str(error)
        sound = []
        for entry in entries:
            missing = [part.path for part in entry.videos.values() if not part.path.is_file()]
            if entry.data_file in broken:
                self.skipped[entry.number] = broken[entry.data_file]
            elif missing and skip_damaged:
                self.skipped[entry.number] = f"video '{missing[0]}' is missing."
            elif missing:
                raise DatasetError(
                    f"video '{missing[0]}' of episode {entry.number} is missing; restore it, or "
                    "skip damaged episodes."
                )
            else:
                sound.append(entry)
        return sound

    def _parts(self, entry: EpisodeEntry, tasks: Mapping[int, str]) -> Iterator[EpisodeEntry]:
        """Yield the stretches of an episode that have one instruction each."""
        if len(entry.tasks) == 1:
            yield entry
            return
        numbers = lerobot.column_to_numpy(self._read_rows(entry, ["task_index"])["task_index"])
        changes = np.flatnonzero(np.diff(numbers)) + 1
        for start, stop in pairwise([0, *changes.tolist(), entry.length]):
            number = int(numbers[start])
            if number not in tasks:
                raise DatasetError(
                    f"'{entry.data_file}' has task_index {number}, '{self.root / 'meta'}' lists "
                    f"{sorted(tasks)}."
                )
            yield replace(
                entry,
                length=stop - start,
                tasks=(tasks[number],),
                first_row=entry.first_row + start,
                videos={
                    key: VideoPart(part.path, part.start_s + start / self.fps)
                    for key, part in entry.videos.items()
                },
            )

    def _open(self, path: Path, num_frames: int) -> None:
        file = open_parquet(path)
        stored = file.metadata.num_rows
        if stored != num_frames:
            raise DatasetError(
                f"'{path}' holds {stored} frames, meta/episodes lists {num_frames}."
            )
        self._files[path] = file

    def _require_feature(self, key: str) -> None:
        if key not in self.features:
            raise DatasetError(
                f"'{self.root / lerobot.INFO_PATH}' has no feature '{key}'; "
                f"available: {', '.join(self.features)}."
            )

    def _entry(self, index: int) -> EpisodeEntry:
        if not 0 <= index < self.num_episodes:
            raise DatasetError(
                f"episode {index} is not in '{self.root}', which has {self.num_episodes}."
            )
        return self._entries[index]

    def _read_rows(self, entry: EpisodeEntry, columns: list[str]) -> pa.Table:
        path = entry.data_file
        file = self._files[path]
        missing = [key for key in columns if key not in file.schema_arrow.names]
        if missing:
            raise DatasetError(f"'{path}' lacks the columns {', '.join(missing)}.")
        start, stop = entry.first_row, entry.first_row + entry.length
        groups, skipped, offset = [], 0, 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if offset + size > start and offset < stop:
                groups.append(group)
            elif offset + size <= start:
                skipped += size
            offset += size
        table = read_table(file, path, groups, columns)
        return table.slice(start - skipped, entry.length)

    def _stream(self, entry: EpisodeEntry, key: str) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames of one camera."""
        feature = self.features[key]
        if feature.dtype != "video":
            column = self._read_rows(entry, [key])[key]
            for index, value in enumerate(column):
                yield _decoded(value, f"frame {index} of '{key}' in '{entry.data_file}'", feature)
            return
        # PyAV is needed for videos only.
        from vla_core.dataset.video import read_frames

        part = entry.videos[key]
        for frame in read_frames(part.path, entry.length, start_s=part.start_s, fps=self.fps):
            if frame.shape != feature.shape:
                raise DatasetError(
                    f"'{part.path}' has frames {list(frame.shape)}, info.json says "
                    f"{list(feature.shape)} for '{key}'."
                )
            yield frame


def _decoded(value: Any, what: str, feature: Feature) -> NDArray[np.uint8]:
    try:
        frame = np.asarray(Image.open(io.BytesIO(value["bytes"].as_py())).convert("RGB"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"{what} is no image: {error}.") from error
    if frame.shape != feature.shape:
        raise DatasetError(
            f"{what} is no image of shape {list(feature.shape)}, but of {list(frame.shape)}."
        )
    return frame
