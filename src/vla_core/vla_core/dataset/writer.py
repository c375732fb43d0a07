# SPDX-License-Identifier: MIT
"""Write episodes to a LeRobotDataset v3.0 that appears only when it is complete.

Every episode goes to a folder of its own in ``<root>.partial`` frame by frame, so an
interruption loses at most the last one. ``finish`` gathers them into the
files of the format and gives the folder its name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.dataset import format as lerobot
from vla_core.dataset.format import ACTION, IMAGE_PREFIX, STATE, Feature
from vla_core.dataset.gathering import gather_episodes
from vla_core.dataset.staging import StagedEpisode, read_record
from vla_core.errors import DatasetError
from vla_core.processing.contract import RobotContract


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
        codec: Codec of the cameras that are stored as video: ``h264`` or ``av1``.
        made_with: How the episodes are made, as JSON values; a recording that was begun with
            others is not resumed.

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
        codec: str = "h264",
        made_with: Mapping[str, Any] | None = None,
    ) -> None:
        lerobot.check_features(features)
        if int(fps) != fps or fps <= 0:
            raise DatasetError(f"fps must be a positive whole number, got {fps!r}.")
        self.root = Path(root)
        self._partial = lerobot.partial_path(self.root)
        self._codec = codec
        self._features = {
            key: _with_video_info(feature, codec, int(fps)) for key, feature in features.items()
        }
        has_videos = any(feature.dtype == "video" for feature in self._features.values())
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
            "video_path": lerobot.VIDEO_PATH if has_videos else None,
            "features": {
                key: feature.to_dict()
                for key, feature in (self._features | lerobot.INDEX_FEATURES).items()
            },
        }
        begun_with = self._info | {"made_with": dict(made_with or {})}
        self._begun_with: dict[str, Any] = json.loads(json.dumps(begun_with))
        self._claim_folders(overwrite=overwrite, resume=resume)

    @classmethod
    def for_contract(
        cls,
        root: str | Path,
        contract: RobotContract,
        *,
        storage: str = "image",
        columns: Mapping[str, Feature] | None = None,
        codec: str = "h264",
        overwrite: bool = False,
        resume: bool = False,
        made_with: Mapping[str, Any] | None = None,
    ) -> EpisodeWriter:
        """Open a writer whose columns and rate are those of a robot.

        Args:
            root: Folder of the dataset.
            contract: The robot; its ``action.rate_hz`` is the frame rate.
            storage: How frames are stored: ``image`` or ``video``.
            columns: Further columns.
            codec: Codec of videos.
            overwrite: Replace a dataset or an interrupted recording at ``root``.
            resume: Continue an interrupted recording at ``root``.
            made_with: How the episodes are made.

        Raises:
            DatasetError: ``root`` is taken, or the rate is no whole number of frames per second.
        """
        return cls(
            root,
            fps=contract.action.rate_hz,  # type: ignore[arg-type]
            features=lerobot.features_from_contract(contract, storage) | dict(columns or {}),
            codec=codec,
            robot_type=contract.robot,
            overwrite=overwrite,
            resume=resume,
            made_with=made_with,
        )

    @property
    def num_episodes(self) -> int:
        """Episodes written so far, those of a resumed recording among them."""
        return len(self._staged_folders())

    @property
    def last_metadata(self) -> dict[str, Any]:
        """The extra facts of the episode written last, empty if there is none.

        A recorder that resumes reads here which seed it had reached.
        """
        staged = self._staged_folders()
        return dict(read_record(staged[-1])["extra"]) if staged else {}

    def staged_metadata(self) -> list[dict[str, Any]]:
        """Return the extra facts of every episode written so far."""
        return [dict(read_record(folder)["extra"]) for folder in self._staged_folders()]

    def add_episode(
        self,
        *,
        images: Mapping[str, NDArray[np.uint8]],
        state: NDArray[Any],
        actions: NDArray[Any],
        task: str,
        columns: Mapping[str, NDArray[Any]] | None = None,
        **extra: str | int | float | bool,
    ) -> int:
        """Write one episode to disk.

        ``actions[t]`` is the action taken on what was seen at frame t.

        Args:
            images: RGB frames by camera name, uint8 [T, H, W, 3].
            state: Measured joint positions, [T, S].
            actions: Action of every frame in robot units, [T, A].
            task: The instruction.
            columns: Further columns that the features have, [T, D] by name.
            extra: More facts on the episode, such as its seed; columns of the episode table.

        Returns:
            Index of the episode.

        Raises:
            DatasetError: An array does not fit the features, or the writer has finished.
        """
        arrays = {STATE: np.asarray(state), ACTION: np.asarray(actions)}
        arrays |= {key: np.asarray(value) for key, value in (columns or {}).items()}
        arrays |= {f"{IMAGE_PREFIX}{name}": np.asarray(value) for name, value in images.items()}
        self._check_episode(arrays)
        episode = self.begin_episode()
        try:
            for frame in range(len(arrays[ACTION])):
                episode.add_frame({key: value[frame] for key, value in arrays.items()})
            episode.finish(task, extra)
        except BaseException:
            episode.discard()
            raise
        return self.num_episodes - 1

    def begin_episode(self) -> StagedEpisode:
        """Begin an episode whose frames come one by one; it counts when it is finished.

        Raises:
            DatasetError: The writer has finished.
        """
        if self._is_finished:
            raise DatasetError(f"dataset '{self.root}' is finished; no episode can be added.")
        return StagedEpisode(
            self._partial / "staged" / f"episode-{self.num_episodes:06d}",
            self._features,
            self._info["fps"],
            self._codec,
        )

    def finish(self) -> Path:
        """Gather the episodes into the files of the format and give the dataset its name.

        Returns:
            The folder of the dataset.

        Raises:
            DatasetError: No episode was added, or a staged file is damaged.
        """
        if self._is_finished:
            return self.root
        if not self._staged_folders():
            raise DatasetError(f"no episode was written, so dataset '{self.root}' was not made.")
        for folder in ("data", "meta", "videos"):
            shutil.rmtree(self._partial / folder, ignore_errors=True)
        gather_episodes(self._partial, self._staged_folders(), self._features, self._info)
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
        """Finish the dataset; with an exception on its way, keep the episodes so far, if any."""
        try:
            if kind is None:
                self.finish()
        finally:
            if self.num_episodes == 0:
                shutil.rmtree(self._partial, ignore_errors=True)

    def _staged_folders(self) -> list[Path]:
        return sorted((self._partial / "staged").glob("episode-*"))

    def _claim_folders(self, *, overwrite: bool, resume: bool) -> None:
        is_taken = self.root.is_file() or (self.root.is_dir() and any(self.root.iterdir()))
        if is_taken and not overwrite:
            raise DatasetError(
                f"dataset '{self.root}' already exists; "
                "choose another folder, or replace it with overwrite (--overwrite)."
            )
        header = self._partial / "recording.json"
        if self._partial.exists() and not (resume or overwrite):
            raise DatasetError(
                f"recording '{self._partial}' was interrupted after {self.num_episodes} episodes; "
                "continue it with resume (--resume), or discard it with overwrite (--overwrite)."
            )
        if self._partial.exists() and resume:
            started = json.loads(header.read_text()) if header.is_file() else {}
            if others := _differences(started, self._begun_with):
                raise DatasetError(
                    f"recording '{self._partial}' was begun with another {' and '.join(others)}; "
                    "resume it as it was begun, or discard it with overwrite (--overwrite)."
                )
            return
        shutil.rmtree(self._partial, ignore_errors=True)
        (self._partial / "staged").mkdir(parents=True)
        header.write_text(json.dumps(self._begun_with))

    def _check_episode(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        if set(arrays) != set(self._features):
            raise DatasetError(
                f"episode has columns {', '.join(sorted(arrays))}; "
                f"the dataset has {', '.join(sorted(self._features))}."
            )
        num_frames = len(arrays[ACTION])
        for key, feature in self._features.items():
            shape = arrays[key].shape
            if shape != (num_frames, *feature.shape) or num_frames == 0:
                expected = ", ".join(map(str, feature.shape))
                raise DatasetError(
                    f"'{key}' must be [T, {expected}] with the same T > 0 in every column "
                    f"(action has {num_frames}), got {list(shape)}."
                )


def _differences(started: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs; of how episodes are made, with both values."""
    found = [key for key in now if key != "made_with" and started.get(key) != now[key]]
    before, after = started.get("made_with", {}), now["made_with"]
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old != new:
            is_short = not isinstance(new, dict)
            found.append(f"{key} ({old!r}, now {new!r})" if is_short else key)
    return found


def _with_video_info(feature: Feature, codec: str, fps: int) -> Feature:
    if feature.dtype != "video":
        return feature
    # PyAV is needed for videos only.
    from vla_core.dataset.video import describe_video

    height, width, _ = feature.shape
    return replace(feature, info=describe_video(codec, height, width, fps))
