# SPDX-License-Identifier: MIT
"""Camera frames to model input: uint8 [H, W, 3] to float [3, h, w] in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from vla_core.errors import ShapeError


def frames_to_tensor(
    frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], size: int | tuple[int, int]
) -> torch.Tensor:
    """Resize frames of one camera to what a model takes.

    Shrinking by a whole factor averages exactly the pixels that fall together; any other size
    goes through an antialiased bilinear filter, which rounds to whole grey levels. The aspect
    ratio follows ``size``. A frame gives the same pixels alone and in a batch.

    Args:
        frames: RGB frames of equal size, uint8 [B, H, W, 3] or B times [H, W, 3]. Views with any
            strides, also read-only ones, are fine.
        size: Height and width of the result, or one number for a square.

    Returns:
        Images in [0, 1], float32 [B, 3, h, w].

    Raises:
        ShapeError: The frames are not uint8 RGB of one size.
    """
    pixels, is_reversed = _contiguous(frames)
    height, width = (size, size) if isinstance(size, int) else size
    rows, columns = pixels.shape[1:3]
    if rows % height == 0 and columns % width == 0:
        sums, count = _block_sums(pixels, rows // height, columns // width)
        images = torch.from_numpy(sums).div_(255.0 * count)
    else:
        # torch has a quick filter for bytes whose channels lie together.
        resized = F.interpolate(
            torch.from_numpy(pixels).permute(0, 3, 1, 2),
            (height, width),
            mode="bilinear",
            antialias=True,
        )
        images = resized.contiguous().float().div_(255.0)
    return images.flip(1) if is_reversed else images


def _contiguous(
    frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
) -> tuple[NDArray[np.uint8], bool]:
    """Return a writable block [B, H, W, 3], and whether it is BGR as the frames lie in memory.

    A single frame is not copied; nothing writes into the block.
    """
    for frame in frames:
        _require_rgb(frame)
    if len({frame.shape for frame in frames}) > 1:
        sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames})
        raise ShapeError(f"frames of one camera must have one size, got {', '.join(sizes)}.")
    # To turn the channels of a large frame around takes longer than to shrink it.
    is_reversed = len(frames) > 0 and all(frame.strides[-1] < 0 for frame in frames)
    ordered = [frame[..., ::-1] if is_reversed else frame for frame in frames]
    if len(ordered) == 1 and ordered[0].flags.c_contiguous and ordered[0].flags.writeable:
        return ordered[0][None], is_reversed
    return np.array(ordered, dtype=np.uint8), is_reversed


def _block_sums(
    pixels: NDArray[np.uint8], rows: int, columns: int
) -> tuple[NDArray[np.float32], int]:
    """Return the sum of every block of pixels, [B, 3, h, w], and how many a block has."""
    dtype = np.uint16 if rows * columns * 255 < 1 << 16 else np.uint32
    sums: NDArray[Any] = pixels[:, ::rows].astype(dtype)
    for row in range(1, rows):
        sums += pixels[:, row::rows]
    planes = np.ascontiguousarray(sums.transpose(0, 3, 1, 2))
    sums = planes[..., ::columns].astype(dtype)
    for column in range(1, columns):
        sums += planes[..., column::columns]
    return sums.astype(np.float32), rows * columns


def _require_rgb(frame: Any) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
        raise ShapeError(f"frame must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}.")
