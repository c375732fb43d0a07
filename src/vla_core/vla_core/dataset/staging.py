# SPDX-License-Identifier: MIT
"""One episode on its way to the disk: frame by frame, so that memory holds only a few."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from vla_core.dataset import format as lerobot
from vla_core.dataset.format import ACTION, Feature
from vla_core.dataset.statistics import FrameSample
from vla_core.errors import DatasetError

FRAMES_NAME = "frames.parquet"
_RECORD_NAME = "record.json"
_ROWS_AT_ONCE = 64
_PNG_COMPRESSION = 3


class StagedEpisode:
    """Writes one episode into a folder that gets its name when the episode is complete.

    Args:
        folder: Folder of the episode.
        features: Columns of a frame.
        fps: Frames per second.
        codec: Codec of videos.
    """

    def __init__(
        self, folder: Path, features: Mapping[str, Feature], fps: int, codec: str
    ) -> None:
        self._folder = folder
        self._partial = folder.with_name(f".{folder.name}")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._features = dict(features)
        self._schema = lerobot.frame_schema(self._features)
        self._rows: dict[str, list[Any]] = {key: [] for key in self._schema.names}
        self._file = pq.ParquetWriter(
            self._partial / FRAMES_NAME, self._schema, use_dictionary=False
        )
        self._samples = {
            key: FrameSample() for key, f in self._features.items() if lerobot.is_camera(f)
        }
        self._videos: dict[str, Any] = {}
        for key, feature in self._features.items():
            if feature.dtype == "video":
                # PyAV is needed for videos only.
                from vla_core.dataset.video import VideoWriter

                self._videos[key] = VideoWriter(video_file(self._partial, key), fps, codec)
        self.num_frames = 0
        self._is_closed = False

    def add_frame(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Add one frame.

        Args:
            values: Value of every column, cameras as uint8 [H, W, 3].

        Raises:
            DatasetError: A value does not fit its feature.
        """
        if set(values) != set(self._features):
            raise DatasetError(
                f"episode has columns {', '.join(sorted(values))}; "
                f"the dataset has {', '.join(sorted(self._features))}."
            )
        arrays = {key: np.asarray(value) for key, value in values.items()}
        for key, feature in self._features.items():
            _check_value(key, feature, arrays[key], self.num_frames)
        for key, value in arrays.items():
            if key in self._samples:
                self._samples[key].add(value)
            if key in self._videos:
                self._videos[key].add(value)
            else:
                self._rows[key].append(_stored(value, self._features[key], self.num_frames))
        self.num_frames += 1
        if len(self._rows[ACTION]) == _ROWS_AT_ONCE:
            self._flush()

    def finish(self, task: str, extra: Mapping[str, Any]) -> None:
        """Complete the episode and give its folder the name.

        Args:
            task: The instruction.
            extra: More facts on the episode.

        Raises:
            DatasetError: The episode has no frame or no instruction, or a fact cannot be stored.
        """
        _check_facts(self.num_frames, task, extra)
        self._flush()
        self._close()
        histograms = {
            key: {"counts": sample.histogram.tolist(), "num_frames": sample.num_frames}
            for key, sample in self._samples.items()
        }
        record = {"task": task, "extra": dict(extra), "histograms": histograms}
        (self._partial / _RECORD_NAME).write_text(json.dumps(record))
        os.replace(self._partial, self._folder)

    def discard(self) -> None:
        """Forget the episode."""
        self._close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def _flush(self) -> None:
        if not self._rows[ACTION]:
            return
        arrays = [pa.array(self._rows[field.name], field.type) for field in self._schema]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        for rows in self._rows.values():
            rows.clear()

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._file.close()
        for video in self._videos.values():
            video.close()


def video_file(folder: Path, key: str) -> Path:
    """Return the video of a camera in the folder of a staged episode."""
    return folder / f"{key}.mp4"


def read_record(folder: Path) -> dict[str, Any]:
    """Return task, extra facts and histograms of a staged episode.

    Raises:
        DatasetError: The file is damaged.
    """
    try:
        record: dict[str, Any] = json.loads((folder / _RECORD_NAME).read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"staged episode '{folder}' is damaged: {error}; delete it and record it again."
        ) from error
    return record


def read_staged_frames(folder: Path) -> pa.Table:
    """Return the frames of a staged episode, without its videos.

    Raises:
        DatasetError: The file is damaged.
    """
    path = folder / FRAMES_NAME
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(
            f"staged episode '{path}' is damaged: {error}; delete its folder and record it again."
        ) from error


def _check_value(key: str, feature: Feature, value: NDArray[Any], frame: int) -> None:
    if value.shape != feature.shape:
        expected = ", ".join(map(str, feature.shape))
        raise DatasetError(
            f"'{key}' must be [{expected}] in every frame, got {list(value.shape)} in frame "
            f"{frame}."
        )
    if lerobot.is_camera(feature):
        if value.dtype != np.uint8:
            raise DatasetError(f"'{key}' must be uint8 RGB, got {value.dtype}.")
    elif not np.isfinite(value).all():
        raise DatasetError(f"'{key}' holds NaN or infinity in frame {frame}.")


def _check_facts(num_frames: int, task: str, extra: Mapping[str, Any]) -> None:
    if num_frames == 0:
        raise DatasetError("an episode needs at least one frame, got none.")
    if not task:
        raise DatasetError(f"task must be a non-empty instruction, got {task!r}.")
    for key, fact in extra.items():
        if key in lerobot.EPISODE_COLUMNS or not isinstance(fact, (str, int, float, bool)):
            raise DatasetError(
                f"extra '{key}' must be a str, int, float or bool and none of "
                f"{', '.join(lerobot.EPISODE_COLUMNS)}; got {fact!r}."
            )


def _stored(value: NDArray[Any], feature: Feature, frame: int) -> Any:
    if feature.dtype == "image":
        buffer = io.BytesIO()
        Image.fromarray(value).save(buffer, "PNG", compress_level=_PNG_COMPRESSION)
        return {"bytes": buffer.getvalue(), "path": f"frame-{frame:06d}.png"}
    values = np.asarray(value, feature.dtype)
    return values[0] if feature.shape == (1,) else values
