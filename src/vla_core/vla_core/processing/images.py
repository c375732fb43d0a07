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
    goes through an antialiased bilinear filter. The aspect ratio follows ``size``. A frame gives
    the same pixels alone and in a batch.

    Args:
        frames: RGB frames of equal size, uint8 [B, H, W, 3] or B times [H, W, 3]. Views with any
            strides, also read-only ones, are fine.
        size: Height and width of the result, or one number for a square.

    Returns:
        Images in [0, 1], float32 [B, 3, h, w].

    Raises:
        ShapeError: The frames are not uint8 RGB of one size.
    """
    pixels = _contiguous(frames)
    height, width = (size, size) if isinstance(size, int) else size
    # [B, H, W, 3] -> [B, 3, H, W]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div_(255.0)
    rows, columns = images.shape[-2:]
    if (rows, columns) == (height, width):
        return images
    if rows % height == 0 and columns % width == 0:
        return F.avg_pool2d(images, (rows // height, columns // width))
    resized = F.interpolate(images, (height, width), mode="bilinear", antialias=True)
    return resized.clamp_(0.0, 1.0)


def _contiguous(frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return one writable block [B, H, W, 3], which is what torch can take over."""
    for frame in frames:
        _require_rgb(frame)
    if len({frame.shape for frame in frames}) > 1:
        sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames})
        raise ShapeError(f"frames of one camera must have one size, got {', '.join(sizes)}.")
    return np.array(frames, dtype=np.uint8, order="C")


def _require_rgb(frame: Any) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
        raise ShapeError(f"frame must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}.")
