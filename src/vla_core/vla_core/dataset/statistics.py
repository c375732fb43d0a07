# SPDX-License-Identifier: MIT
"""The statistics that LeRobotDataset v3.0 stores: of vectors exactly, of images from a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

_SAMPLED_FRAMES = 16
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


def image_histogram(frames: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]:
    """Count the pixel values of a sample of an episode's frames.

    Args:
        frames: RGB frames, [T, H, W, 3].

    Returns:
        Counts per channel and value, [3, 256], and the number of frames sampled.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, _SAMPLED_FRAMES).round().astype(int))
    sample = frames[chosen, ::_PIXEL_STRIDE, ::_PIXEL_STRIDE]
    counts = [np.bincount(sample[..., channel].ravel(), minlength=256) for channel in range(3)]
    return np.stack(counts).astype(np.int64), len(chosen)


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
