# SPDX-License-Identifier: MIT
"""Write episodes to a LeRobotDataset v3.0 that appears only when it is complete.

Every episode goes to a file of its own in ``<root>.partial`` as soon as it is added, so memory
holds one episode and an interruption loses at most that one. ``finish`` gathers them into the
files of the format and gives the folder its name.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from vla_core.dataset import format as lerobot
from vla_core.dataset.format import ACTION, IMAGE_PREFIX, STATE, Feature
from vla_core.dataset.gathering import EPISODE_KEY, gather_episodes, read_record, write_parquet
from vla_core.dataset.statistics import image_histogram
from vla_core.errors import DatasetError
from vla_core.processing.contract import RobotContract

_PNG_COMPRESSION = 3


class EpisodeWriter:
    """Writes one dataset, episode by episode.

    As a context manager it finishes the dataset when the block ends; when an exception ends it,
    the recording can be resumed.

    Args:
        root: Folder of the dataset; it appears when ``finish`` succeeds.
        fps: Frames per second.
        features: Columns of a frame, as ``features_from_contract`` gives them.
        robot_type: Name of the robot.
        overwrite: Replace a dataset or an interrupted recording at ``root``.
        resume: Continue an interrupted recording at ``root``.
        data_file_size_mb: Size at which a new data file is begun.

    Raises:
        DatasetError: ``root`` is taken, or an interrupted recording does not fit.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        fps: int,
        features: Mapping[str, Feature],
        robot_type: str | None = None,
        overwrite: bool = False,
        resume: bool = False,
        data_file_size_mb: int = lerobot.DATA_FILE_SIZE_MB,
    ) -> None:
        lerobot.check_features(features)
        if int(fps) != fps or fps <= 0:
            raise DatasetError(f"fps must be a positive whole number, got {fps!r}.")
        self.root = Path(root)
        self._partial = lerobot.partial_path(self.root)
        self._features = dict(features)
        self._overwrite = overwrite
        self._is_finished = False
        self._info: dict[str, Any] = {
            "codebase_version": lerobot.CODEBASE_VERSION,
            "robot_type": robot_type,
            "total_episodes": 0,
            "total_frames": 0,
            "total_tasks": 0,
            "chunks_size": lerobot.CHUNKS_SIZE,
            "data_files_size_in_mb": data_file_size_mb,
            "video_files_size_in_mb": 200,
            "fps": int(fps),
            "splits": {},
            "data_path": lerobot.DATA_PATH,
            "video_path": None,
            "features": {
                key: feature.to_dict()
                for key, feature in (self._features | lerobot.INDEX_FEATURES).items()
            },
        }
        self._claim_folders(overwrite=overwrite, resume=resume)

    @classmethod
    def for_contract(
        cls,
        root: str | Path,
        contract: RobotContract,
        *,
        overwrite: bool = False,
        resume: bool = False,
    ) -> EpisodeWriter:
        """Open a writer whose columns and rate are those of a robot.

        Args:
            root: Folder of the dataset.
            contract: The robot; its ``action.rate_hz`` is the frame rate.
            overwrite: Replace a dataset or an interrupted recording at ``root``.
            resume: Continue an interrupted recording at ``root``.

        Raises:
            DatasetError: ``root`` is taken, or the rate is no whole number of frames per second.
        """
        return cls(
            root,
            fps=contract.action.rate_hz,  # type: ignore[arg-type]
            features=lerobot.features_from_contract(contract),
            robot_type=contract.robot,
            overwrite=overwrite,
            resume=resume,
        )

    @property
    def num_episodes(self) -> int:
        """Episodes written so far, those of a resumed recording among them."""
        return len(self._staged_files())

    @property
    def last_metadata(self) -> dict[str, Any]:
        """The extra facts of the episode written last, empty if there is none.

        A recorder that resumes reads here which seed it had reached.
        """
        staged = self._staged_files()
        return dict(read_record(staged[-1])["extra"]) if staged else {}

    def add_episode(
        self,
        *,
        images: Mapping[str, NDArray[np.uint8]],
        state: NDArray[Any],
        actions: NDArray[Any],
        task: str,
        **extra: str | int | float | bool,
    ) -> int:
        """Write one episode to disk.

        ``actions[t]`` is the action taken on what was seen at frame t.

        Args:
            images: RGB frames by camera name, uint8 [T, H, W, 3].
            state: Measured joint positions, [T, S].
            actions: Action of every frame in robot units, [T, A].
            task: The instruction.
            extra: More facts on the episode, such as its seed; columns of the episode table.

        Returns:
            Index of the episode.

        Raises:
            DatasetError: An array does not fit the features, or the writer has finished.
        """
        if self._is_finished:
            raise DatasetError(f"dataset '{self.root}' is finished; no episode can be added.")
        columns = {STATE: np.asarray(state), ACTION: np.asarray(actions)}
        columns |= {f"{IMAGE_PREFIX}{name}": np.asarray(value) for name, value in images.items()}
        self._check_episode(columns, task, extra)
        arrays, histograms = [], {}
        for key, feature in self._features.items():
            if feature.dtype == "image":
                counts, num_frames = image_histogram(columns[key])
                histograms[key] = {"counts": counts.tolist(), "num_frames": num_frames}
            arrays.append(_to_arrow(columns[key], feature))
        record = {"task": task, "extra": extra, "histograms": histograms}
        schema = lerobot.frame_schema(self._features).with_metadata(
            {EPISODE_KEY: json.dumps(record)}
        )
        index = self.num_episodes
        path = self._partial / "staged" / f"episode-{index:06d}.parquet"
        write_parquet(pa.Table.from_arrays(arrays, schema=schema), path)
        return index

    def finish(self) -> Path:
        """Gather the episodes into the files of the format and give the dataset its name.

        Returns:
            The folder of the dataset.

        Raises:
            DatasetError: No episode was added, or a staged file is damaged.
        """
        if self._is_finished:
            return self.root
        if not self._staged_files():
            raise DatasetError(f"dataset '{self.root}' has no episode; add one before finish().")
        for folder in ("data", "meta"):
            shutil.rmtree(self._partial / folder, ignore_errors=True)
        gather_episodes(self._partial, self._staged_files(), self._features, self._info)
        shutil.rmtree(self._partial / "staged")
        (self._partial / "recording.json").unlink()
        replaced = self.root.with_name(self.root.name + ".replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if self.root.exists():
            self.root.rename(replaced)
        self._partial.rename(self.root)
        shutil.rmtree(replaced, ignore_errors=True)
        self._is_finished = True
        return self.root

    def __enter__(self) -> EpisodeWriter:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the dataset unless an exception is on its way."""
        if kind is None:
            self.finish()

    def _staged_files(self) -> list[Path]:
        return sorted((self._partial / "staged").glob("episode-*.parquet"))

    def _claim_folders(self, *, overwrite: bool, resume: bool) -> None:
        is_taken = self.root.is_file() or (self.root.is_dir() and any(self.root.iterdir()))
        if is_taken and not overwrite:
            raise DatasetError(
                f"dataset '{self.root}' already exists; "
                "choose another folder or pass overwrite=True."
            )
        header = self._partial / "recording.json"
        if self._partial.exists() and not (resume or overwrite):
            raise DatasetError(
                f"recording '{self._partial}' was interrupted after {self.num_episodes} episodes; "
                "pass resume=True to continue it or overwrite=True to discard it."
            )
        if self._partial.exists() and resume:
            started = json.loads(header.read_text()) if header.is_file() else None
            if started != self._info:
                raise DatasetError(
                    f"recording '{self._partial}' was begun with other features, fps, file size "
                    "or robot; pass overwrite=True to discard it."
                )
            return
        shutil.rmtree(self._partial, ignore_errors=True)
        (self._partial / "staged").mkdir(parents=True)
        header.write_text(json.dumps(self._info))

    def _check_episode(
        self, columns: Mapping[str, NDArray[Any]], task: str, extra: Mapping[str, object]
    ) -> None:
        if set(columns) != set(self._features):
            raise DatasetError(
                f"episode has columns {', '.join(sorted(columns))}; "
                f"the dataset has {', '.join(sorted(self._features))}."
            )
        num_frames = len(columns[ACTION])
        for key, feature in self._features.items():
            value = columns[key]
            if value.shape != (num_frames, *feature.shape) or num_frames == 0:
                expected = ", ".join(map(str, feature.shape))
                raise DatasetError(
                    f"'{key}' must be [T, {expected}] with the same T > 0 in every column "
                    f"(action has {num_frames}), got {list(value.shape)}."
                )
            if feature.dtype == "image" and value.dtype != np.uint8:
                raise DatasetError(f"'{key}' must be uint8 RGB, got {value.dtype}.")
            if feature.dtype != "image" and not np.isfinite(value).all():
                raise DatasetError(f"'{key}' holds NaN or infinity; nothing was written.")
        if not task:
            raise DatasetError(f"task must be a non-empty instruction, got {task!r}.")
        for key, fact in extra.items():
            if key in lerobot.EPISODE_COLUMNS or not isinstance(fact, (str, int, float, bool)):
                raise DatasetError(
                    f"extra '{key}' must be a str, int, float or bool and none of "
                    f"{', '.join(lerobot.EPISODE_COLUMNS)}; got {fact!r}."
                )


def _to_arrow(values: NDArray[Any], feature: Feature) -> pa.Array:
    if feature.dtype == "image":
        return pa.array(list(_encoded(values)), type=feature.arrow_type)
    flat = np.ascontiguousarray(values, dtype=feature.dtype)
    if feature.shape == (1,):
        return pa.array(flat.ravel())
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), feature.shape[0])


def _encoded(frames: NDArray[np.uint8]) -> Iterator[dict[str, Any]]:
    for index, frame in enumerate(frames):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG", compress_level=_PNG_COMPRESSION)
        yield {"bytes": buffer.getvalue(), "path": f"frame-{index:06d}.png"}
