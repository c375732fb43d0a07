# SPDX-License-Identifier: MIT
"""Where the episodes of a LeRobotDataset lie: v3.0, and the older v2.0 and v2.1.

v3.0: many episodes share the files of ``data`` and ``videos``, and parquet tables below ``meta``
tell where each one is. v2: every episode has files of its own, and ``meta`` is JSON lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from vla_core.dataset import format as lerobot
from vla_core.dataset.format import Feature
from vla_core.errors import DatasetError

READABLE_VERSIONS = ("v3.", "v2.0", "v2.1")

_EPISODES_JSONL = Path("meta/episodes.jsonl")
_TASKS_JSONL = Path("meta/tasks.jsonl")


class VideoPart(NamedTuple):
    """Where the frames of one camera in one episode are.

    Attributes:
        path: Video file.
        start_s: Time of the first frame in it.
    """

    path: Path
    start_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeEntry:
    """What the metadata say about an episode.

    Attributes:
        number: ``episode_index`` in the files.
        length: Frames.
        tasks: The instructions; where there are several, ``task_index`` tells those of the frames.
        data_file: Parquet file that holds its frames.
        first_row: Row of the first frame in it.
        videos: Its part of each video, by column.
        metadata: Further facts, such as the seed.
    """

    number: int
    length: int
    tasks: tuple[str, ...]
    data_file: Path
    first_row: int
    videos: dict[str, VideoPart] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


def read_info(root: Path) -> dict[str, Any]:
    """Return ``meta/info.json``.

    Raises:
        DatasetError: It is missing, damaged, incomplete, or of an unknown version.
    """
    path = root / lerobot.INFO_PATH
    if not path.is_file():
        partial = lerobot.partial_path(root)
        if partial.is_dir():
            raise DatasetError(
                f"dataset '{root}' was never finished: its recording was interrupted and "
                f"lies in '{partial}'; resume or delete it."
            )
        raise DatasetError(
            f"'{root}' is no LeRobotDataset: '{lerobot.INFO_PATH}' is missing. Name the "
            f"folder of one, or record it: vla record-sim --output {root}"
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
    if not version.startswith(READABLE_VERSIONS):
        raise DatasetError(
            f"'{path}' says codebase_version '{version}', expected v3.x, v2.1 or v2.0; convert "
            "the dataset with LeRobot."
        )
    return dict(info)


def read_entries(
    root: Path, info: Mapping[str, Any], features: Mapping[str, Feature]
) -> list[EpisodeEntry]:
    """Return what the metadata say about every episode, in order.

    Raises:
        DatasetError: The metadata are missing, damaged, or contradict each other.
    """
    read = _entries_v3 if str(info["codebase_version"]).startswith("v3") else _entries_v2
    videos = [key for key, feature in features.items() if feature.dtype == "video"]
    entries = sorted(read(root, info, videos), key=lambda entry: entry.number)
    if [entry.number for entry in entries] != list(range(len(entries))):
        raise DatasetError(f"'{root / 'meta'}' does not number its episodes 0, 1, 2, ...")
    if info["total_episodes"] != len(entries):
        raise DatasetError(
            f"'{root / lerobot.INFO_PATH}' counts {info['total_episodes']} episodes, "
            f"meta/episodes lists {len(entries)}."
        )
    return entries


def read_tasks(root: Path, info: Mapping[str, Any]) -> dict[int, str]:
    """Return the instruction of each ``task_index``.

    Raises:
        DatasetError: Their file is missing or damaged.
    """
    is_v3 = str(info["codebase_version"]).startswith("v3")
    path = root / (lerobot.TASKS_PATH if is_v3 else _TASKS_JSONL)
    if not is_v3:
        return {int(row["task_index"]): str(row["task"]) for row in _json_lines(path)}
    file = open_parquet(path)
    # The other column is the index of the table, whose name differs between writers.
    rows = read_table(file, path, list(range(file.num_row_groups)), None).to_pylist()
    return {row.pop("task_index"): str(*row.values()) for row in rows}


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file.

    Raises:
        DatasetError: It is missing or damaged.
    """
    if not path.is_file():
        raise DatasetError(f"data file '{path}' is missing.")
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"'{path}' is damaged or no parquet file: {error}") from error


def read_table(
    file: pq.ParquetFile, path: Path, groups: list[int], columns: list[str] | None
) -> pa.Table:
    """Read row groups of a parquet file, all columns if None are named.

    Raises:
        DatasetError: They are damaged.
    """
    try:
        return file.read_row_groups(groups, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"'{path}' is damaged: {error}") from error


def _entries_v3(root: Path, info: Mapping[str, Any], videos: list[str]) -> list[EpisodeEntry]:
    paths = sorted((root / lerobot.EPISODES_FOLDER).glob("*/*.parquet"))
    if not paths:
        raise DatasetError(f"'{root / lerobot.EPISODES_FOLDER}' holds no parquet file.")
    if not (root / lerobot.TASKS_PATH).is_file():
        raise DatasetError(f"'{root / lerobot.TASKS_PATH}' is missing.")
    where = [
        f"videos/{key}/{name}"
        for key in videos
        for name in ("chunk_index", "file_index", "from_timestamp")
    ]
    rows: list[dict[str, Any]] = []
    for path in paths:
        file = open_parquet(path)
        names = file.schema_arrow.names
        missing = [key for key in (*lerobot.EPISODE_COLUMNS[:7], *where) if key not in names]
        if missing:
            raise DatasetError(f"'{path}' lacks the columns {', '.join(missing)}.")
        columns = [name for name in names if not name.startswith("stats/")]
        rows += read_table(file, path, list(range(file.num_row_groups)), columns).to_pylist()
    rows.sort(key=lambda row: row["episode_index"])
    first_index: dict[Path, int] = {}
    entries = []
    for row in rows:
        data_file = root / info["data_path"].format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        start = int(row["dataset_from_index"])
        first_index.setdefault(data_file, start)
        entries.append(
            EpisodeEntry(
                number=int(row["episode_index"]),
                length=int(row["length"]),
                tasks=tuple(row["tasks"]),
                data_file=data_file,
                first_row=start - first_index[data_file],
                videos={key: _video_v3(root, info, key, row) for key in videos},
                metadata=_facts(row),
            )
        )
    return entries


def _video_v3(root: Path, info: Mapping[str, Any], key: str, row: Mapping[str, Any]) -> VideoPart:
    path = str(info.get("video_path") or lerobot.VIDEO_PATH).format(
        video_key=key,
        chunk_index=row[f"videos/{key}/chunk_index"],
        file_index=row[f"videos/{key}/file_index"],
    )
    return VideoPart(root / path, float(row[f"videos/{key}/from_timestamp"]))


def _entries_v2(root: Path, info: Mapping[str, Any], videos: list[str]) -> Iterator[EpisodeEntry]:
    chunks_size = int(info.get("chunks_size", lerobot.CHUNKS_SIZE))
    for row in _json_lines(root / _EPISODES_JSONL):
        missing = [key for key in ("episode_index", "tasks", "length") if key not in row]
        if missing:
            raise DatasetError(f"'{root / _EPISODES_JSONL}' lacks {', '.join(missing)}.")
        number = int(row["episode_index"])
        place = {"episode_chunk": number // chunks_size, "episode_index": number}
        yield EpisodeEntry(
            number=number,
            length=int(row["length"]),
            tasks=tuple(row["tasks"]),
            data_file=root / info["data_path"].format(**place),
            first_row=0,
            videos={
                key: VideoPart(root / info["video_path"].format(**place, video_key=key), 0.0)
                for key in videos
            },
            metadata=_facts(row),
        )


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    for number, line in enumerate(lines, start=1):
        try:
            yield dict(json.loads(line))
        except (ValueError, TypeError) as error:
            raise DatasetError(f"line {number} of '{path}' is no JSON: {error}.") from error


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in row.items()
        if key not in lerobot.EPISODE_COLUMNS and "/" not in key and value is not None
    }
