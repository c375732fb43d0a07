# SPDX-License-Identifier: MIT
"""Pixels of a ``sensor_msgs/Image`` as RGB, whatever its encoding.

- Common colours of 8 bit are a view of the message.
- 16 bit are scaled to 8, in either byte order.
- Bayer patterns and YUV go through ``vla_core.processing.color_conversion``.
- Depth becomes grey by the camera's range, in ``vla_core.processing.depth_images``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError
from vla_core.processing.color_conversion import (
    BAYER_ENCODINGS,
    SEMI_PLANAR_ENCODINGS,
    YUV_ENCODINGS,
    bayer_to_rgb,
    semi_planar_to_rgb,
    yuv_to_rgb,
)
from vla_core.processing.depth_images import (
    DEPTH_ENCODINGS,
    MILLIMETRES,
    depth_to_rgb,
    require_depth_range,
)
from vla_core.processing.value_checks import quoted

# Channels in memory, and the selection that turns them into RGB without a copy. Without names of
# colours OpenCV's order is meant, as rviz reads them too.
_VIEWS: dict[str, tuple[int, slice]] = {
    "rgb8": (3, slice(None)),
    "bgr8": (3, slice(None, None, -1)),
    "rgba8": (4, slice(0, 3)),
    "bgra8": (4, slice(2, None, -1)),
    "mono8": (1, slice(None)),
    "8UC1": (1, slice(None)),
    "8UC3": (3, slice(None, None, -1)),
    "8UC4": (4, slice(2, None, -1)),
}
_DEEP: dict[str, tuple[int, slice]] = {
    "rgb16": (3, slice(None)),
    "bgr16": (3, slice(None, None, -1)),
    "rgba16": (4, slice(0, 3)),
    "bgra16": (4, slice(2, None, -1)),
    "mono16": (1, slice(None)),
    "16UC3": (3, slice(None, None, -1)),
    "16UC4": (4, slice(2, None, -1)),
}
VIEWED_ENCODINGS = tuple(_VIEWS)
SUPPORTED_ENCODINGS = (
    *_VIEWS,
    *_DEEP,
    *BAYER_ENCODINGS,
    *YUV_ENCODINGS,
    *SEMI_PLANAR_ENCODINGS,
    *DEPTH_ENCODINGS,
)


def image_from_message(
    message: Any, depth_range_m: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Return the pixels of a ``sensor_msgs/Image`` as RGB.

    For ``VIEWED_ENCODINGS`` the result is a view of the message: it may be read-only or have
    negative strides, and lives as long as the message does. Padding at the end of rows is left
    out. ``is_bigendian`` has a meaning only where a channel has more than one byte.

    Args:
        message: Image with one of ``SUPPORTED_ENCODINGS``.
        depth_range_m: Distances that become black and white, for a depth camera only.

    Returns:
        RGB pixels, uint8 [H, W, 3].

    Raises:
        MessageError: The encoding is not supported, it is one of depth without a range or of
            colours with one, or size, step and data contradict each other.
    """
    encoding = message.encoding
    if encoding not in SUPPORTED_ENCODINGS:
        raise MessageError(
            f"image encoding {encoding!r} is not supported; supported: "
            f"{quoted(SUPPORTED_ENCODINGS)}."
        )
    if encoding in DEPTH_ENCODINGS or (encoding in MILLIMETRES and depth_range_m is not None):
        depth_range_m = require_depth_range(encoding, depth_range_m)
        if encoding in MILLIMETRES:
            return depth_to_rgb(_rows(message, np.uint16, 1)[..., 0], depth_range_m, unit_m=1e-3)
        return depth_to_rgb(_rows(message, np.float32, 1)[..., 0], depth_range_m)
    if depth_range_m is not None:
        raise MessageError(
            f"image encoding {encoding!r} is not one of depth, but the camera has a "
            f"depth_range_m; expected {quoted((*DEPTH_ENCODINGS, *MILLIMETRES))}."
        )
    if encoding in _VIEWS:
        channels, to_rgb = _VIEWS[encoding]
        return _as_rgb(_rows(message, np.uint8, channels)[..., to_rgb])
    if encoding in _DEEP:
        channels, to_rgb = _DEEP[encoding]
        return _as_rgb(to_8_bit(_rows(message, np.uint16, channels)[..., to_rgb]))
    if encoding in YUV_ENCODINGS:
        return yuv_to_rgb(_rows(message, np.uint8, 2), encoding)
    if encoding in SEMI_PLANAR_ENCODINGS:
        return semi_planar_to_rgb(_planes(message), encoding)
    if encoding.endswith("16"):
        return to_8_bit(bayer_to_rgb(_rows(message, np.uint16, 1)[..., 0], encoding))
    return bayer_to_rgb(_rows(message, np.uint8, 1)[..., 0], encoding)


def to_8_bit(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Scale 0..65535 to 0..255, rounding to the nearest."""
    # Exact for all values, and twice as fast as rounding floats.
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _as_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)) if pixels.shape[2] == 1 else pixels


def _rows(message: Any, dtype: Any, channels: int) -> NDArray[Any]:
    """Return the pixels [H, W, channels], a view unless the byte order is not this machine's."""
    return _pixels(message, int(message.height), dtype, channels)


def _planes(message: Any) -> NDArray[np.uint8]:
    """Return luma and, below it, half as many rows of chroma, uint8 [H * 3 / 2, W]."""
    height, width = int(message.height), int(message.width)
    if height % 2 or width % 2:
        raise MessageError(
            f"image of {message.encoding} must have an even width and height, got "
            f"{width}x{height}."
        )
    return _pixels(message, height * 3 // 2, np.uint8, 1)[..., 0]


def _pixels(message: Any, num_rows: int, dtype: Any, channels: int) -> NDArray[Any]:
    width, step, data = int(message.width), int(message.step), message.data
    if num_rows == 0 or width == 0:
        raise MessageError(f"image must have pixels, got {width}x{message.height}.")
    row_bytes = width * channels * np.dtype(dtype).itemsize
    if step < row_bytes:
        raise MessageError(
            f"image step must be at least {row_bytes} bytes for {width} pixels of "
            f"{message.encoding}, got {step}."
        )
    if len(data) != step * num_rows:
        raise MessageError(
            f"image data must be {step * num_rows} bytes (step {step} x {num_rows} rows), "
            f"got {len(data)}."
        )
    rows = np.frombuffer(data, dtype=np.uint8).reshape(num_rows, step)[:, :row_bytes]
    if dtype is np.uint8:
        return rows.reshape(num_rows, width, channels)
    order = ">" if message.is_bigendian else "<"
    # A step need not be a multiple of the item's size, which only a copy can be read as.
    packed = np.ascontiguousarray(rows).view(np.dtype(dtype).newbyteorder(order))
    native = packed.astype(dtype, copy=False)
    return native.reshape(num_rows, width, channels)
