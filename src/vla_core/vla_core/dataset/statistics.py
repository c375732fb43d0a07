# SPDX-License-Identifier: MIT
"""The statistics that LeRobotDataset v3.0 stores: of vectors exactly, of images from a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

_SAMPLED_FRAMES = 20
_PIXEL_STRIDE = 2


def vector_statistics(values: NDArray[Any]) -> dict[str, Any]:
    """Summarise a vector per dimension.

    Args:
        values: One row per frame, [T, D], or [T] for a scalar column.

    Returns:
        Lists of length D for min, max, mean, std and the quantiles, and ``count`` as ``[T]``.
    """
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0).tolist(),
        "max": rows.max(axis=0).tolist(),
        "mean": rows.mean(axis=0).tolist(),
        "std": rows.std(axis=0).tolist(),
        "count": [len(rows)],
    } | {name: row.tolist() for name, row in zip(QUANTILES, quantiles, strict=True)}


class FrameSample:
    """Counts the pixel values of frames that are spread evenly over an episode of any length.

    Every n-th frame is counted; when they become too many, every second of them is dropped and n
    is doubled.
    """

    def __init__(self) -> None:
        self._stride = 1
        self._num_seen = 0
        self._counts: list[NDArray[np.int64]] = []

    def add(self, frame: NDArray[np.uint8]) -> None:
        """See the next frame, RGB [H, W, 3]."""
        if self._num_seen % self._stride == 0:
            pixels = frame[::_PIXEL_STRIDE, ::_PIXEL_STRIDE]
            counts = [np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(3)]
            self._counts.append(np.stack(counts).astype(np.int64))
            if len(self._counts) > _SAMPLED_FRAMES:
                del self._counts[1::2]
                self._stride *= 2
        self._num_seen += 1

    @property
    def num_frames(self) -> int:
        """Frames that are counted."""
        return len(self._counts)

    @property
    def histogram(self) -> NDArray[np.int64]:
        """Counts per channel and value, int64 [3, 256]."""
        return np.sum(self._counts, axis=0, dtype=np.int64)


def image_statistics(histogram: NDArray[np.int64], num_frames: int) -> dict[str, Any]:
    """Summarise pixel values in [0, 1] per channel from their histogram.

    Args:
        histogram: Counts per channel and value, [3, 256].
        num_frames: Number of frames that were counted.

    Returns:
        Nested lists [3, 1, 1] for min, max, mean, std and the quantiles, and ``count``.
    """
    levels = np.arange(256) / 255.0
    weights = histogram / histogram.sum(axis=1, keepdims=True)
    cumulative = weights.cumsum(axis=1)
    mean = weights @ levels
    result = {
        "min": levels[(histogram > 0).argmax(axis=1)],
        "max": levels[255 - (histogram[:, ::-1] > 0).argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(weights @ levels**2 - mean**2, 0.0)),
    } | {name: levels[(cumulative >= q - 1e-12).argmax(axis=1)] for name, q in QUANTILES.items()}
    as_lists: dict[str, Any] = {
        name: value.reshape(3, 1, 1).tolist() for name, value in result.items()
    }
    return as_lists | {"count": [num_frames]}
