# SPDX-License-Identifier: MIT
"""Read demonstrations as ACT's own scripts record them: one HDF5 file per episode.

``observations/qpos`` [T, S], ``action`` [T, A] and ``observations/images/<camera>``, uint8
[T, H, W, 3] or, where ALOHA's recorder compresses them, JPEG in rows padded to one length. What
else the recorders store, ``qvel``, ``effort`` and ``base_action`` of a mobile base, is not read.
Source: ``record_sim_episodes.py`` of https://github.com/tonyzhaozh/act, ``record_episodes.py`` of
https://github.com/MarkFzp/mobile-aloha and https://github.com/Interbotix/aloha.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vla_core.errors import DatasetError

_STATE, _ACTION, _IMAGES = "observations/qpos", "action", "observations/images"


class ActEpisode:
    """One episode file, open for reading; use it in a `with` statement.

    Args:
        path: HDF5 file.
        is_bgr: Whether the stored arrays have blue first, as with a camera driver that sends
            bgr8.

    Raises:
        DatasetError: The file is damaged, or is no episode of ACT.
    """

    def __init__(self, path: Path, *, is_bgr: bool = False) -> None:
        self.path = path
        self._is_bgr = is_bgr
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise DatasetError(f"'{path}' is damaged or no HDF5 file: {error}.") from error
        missing = [key for key in (_STATE, _ACTION, _IMAGES) if key not in self._file]
        if missing:
            self._file.close()
            raise DatasetError(f"'{path}' is no episode of ACT: it lacks {', '.join(missing)}.")
        self._cameras: dict[str, Any] = dict(self._file[_IMAGES])
        lengths = {len(self._file[key]) for key in (_STATE, _ACTION)}
        lengths |= {len(frames) for frames in self._cameras.values()}
        if len(lengths) != 1 or not self._cameras:
            self._file.close()
            raise DatasetError(
                f"'{path}' has {len(self._cameras)} cameras and lengths {sorted(lengths)}; every "
                "part needs the same number of frames."
            )
        self.num_frames = lengths.pop()

    def __enter__(self) -> ActEpisode:
        """Return the episode."""
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras."""
        return list(self._cameras)

    @property
    def state(self) -> NDArray[np.float32]:
        """Measured positions, float32 [T, S]."""
        return np.asarray(self._file[_STATE], np.float32)

    @property
    def actions(self) -> NDArray[np.float32]:
        """Commanded positions, float32 [T, A]."""
        return np.asarray(self._file[_ACTION], np.float32)

    def frames(self) -> Iterator[dict[str, NDArray[np.uint8]]]:
        """Yield the RGB frames of all cameras, uint8 [H, W, 3].

        Raises:
            DatasetError: A frame is damaged.
        """
        for number in range(self.num_frames):
            yield {name: self._frame(name, number) for name in self._cameras}

    def _frame(self, camera: str, number: int) -> NDArray[np.uint8]:
        try:
            stored = np.asarray(self._cameras[camera][number], np.uint8)
            if stored.ndim == 1:
                # OpenCV took the arrays for BGR when it wrote the JPEG.
                stored = np.asarray(Image.open(io.BytesIO(stored.tobytes())).convert("RGB"))
                stored = stored[..., ::-1]
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"frame {number} of camera '{camera}' in '{self.path}' is damaged: {error}."
            ) from error
        return stored[..., ::-1] if self._is_bgr else stored
