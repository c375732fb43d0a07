# SPDX-License-Identifier: MIT
"""Frames of a camera as an MP4 file: written one by one, read one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vla_core.errors import DatasetError

CODECS = {"h264": "libx264", "av1": "libsvtav1"}
_OPTIONS = {
    # Few key frames: readers go through an episode from its beginning.
    "h264": {"crf": "20", "preset": "veryfast", "g": "10", "bf": "0"},
    # As LeRobot writes it: every second frame can be reached at once.
    "av1": {"crf": "30", "preset": "10", "g": "2"},
}
_PIXEL_FORMAT = "yuv420p"
# Several workers decode beside each other. Before version 17 colours were always converted in one.
_ONE_THREAD = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}


class VideoWriter:
    """Encodes frames as they come.

    Args:
        path: File to write.
        fps: Frames per second.
        codec: ``h264`` or ``av1``.

    Raises:
        DatasetError: The codec is unknown, or this build of PyAV lacks it.
    """

    def __init__(self, path: Path, fps: int, codec: str = "h264") -> None:
        if codec not in CODECS:
            raise DatasetError(f"codec must be one of {', '.join(CODECS)}, got '{codec}'.")
        self._path = path
        self._codec = codec
        self._fps = fps
        self._container: Any = av.open(str(path), "w", format="mp4")
        self._stream: Any = None
        self._count = 0

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Encode an RGB frame, uint8 [H, W, 3].

        Raises:
            DatasetError: Its size is odd, which the pixel format cannot hold.
        """
        if self._stream is None:
            self._open_stream(frame.shape[0], frame.shape[1])
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts, picture.time_base = self._count, Fraction(1, self._fps)
        self._container.mux(self._stream.encode(picture))
        self._count += 1

    def close(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def _open_stream(self, height: int, width: int) -> None:
        if height % 2 or width % 2:
            raise DatasetError(
                f"a video has even sides, the frames are {width}x{height}; store them as images."
            )
        # The encoder of av1 tells its settings on every file otherwise.
        os.environ.setdefault("SVT_LOG", "1")
        try:
            stream = self._container.add_stream(
                CODECS[self._codec], rate=self._fps, options=_OPTIONS[self._codec]
            )
        except (FFmpegError, ValueError) as error:
            raise DatasetError(f"PyAV cannot encode '{self._codec}': {error}.") from error
        stream.height, stream.width, stream.pix_fmt = height, width, _PIXEL_FORMAT
        stream.time_base = Fraction(1, self._fps)
        self._stream = stream


def read_frames(
    path: Path, num_frames: int, *, start_s: float = 0.0, fps: float
) -> Iterator[NDArray[np.uint8]]:
    """Decode consecutive frames of a video.

    Args:
        path: File to read.
        num_frames: How many frames.
        start_s: Time of the first one in the file.
        fps: Frames per second of the dataset.

    Yields:
        RGB frames, uint8 [H, W, 3].

    Raises:
        DatasetError: The file is missing, damaged, or has fewer frames.
    """
    count = 0
    # A frame's own method prepares the conversion anew for each, which takes longer than it.
    colours: Any = VideoReformatter()
    try:
        with av.open(str(path)) as container:
            stream: Any = container.streams.video[0]
            stream.codec_context.thread_count = 1
            if start_s > 0.0:
                container.seek(round(start_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time < start_s - 0.5 / fps:
                    continue
                if count == num_frames:
                    break
                count += 1
                picture = colours.reformat(frame, format="rgb24", **_ONE_THREAD)
                yield np.asarray(picture.to_ndarray(), np.uint8)
    except (FFmpegError, IndexError, OSError) as error:
        raise DatasetError(
            f"video '{path}' is missing or damaged after {count} frames: {error}."
        ) from error
    if count < num_frames:
        raise DatasetError(
            f"video '{path}' has {count} frames from {start_s:.3f} s on, the dataset lists "
            f"{num_frames}."
        )


def describe_video(codec: str, height: int, width: int, fps: int) -> dict[str, Any]:
    """Return what ``info.json`` says about a video."""
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": codec,
        "video.pix_fmt": _PIXEL_FORMAT,
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }
