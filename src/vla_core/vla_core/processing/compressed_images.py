# SPDX-License-Identifier: MIT
"""Pixels of a ``sensor_msgs/CompressedImage``: JPEG, PNG, and the format compressedDepth."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vla_core.errors import MessageError
from vla_core.processing.depth_images import depth_to_rgb, require_depth_range
from vla_core.processing.image_encodings import to_8_bit

_FILE_TYPES = ("JPEG", "PNG")
# A codec as uint32 and the two parameters of the quantisation, before the PNG.
_DEPTH_HEADER = struct.Struct("<iff")
_PNG_SIGNATURE = b"\x89PNG"
_SHOWN_BYTES = 8


def compressed_size(message: Any) -> tuple[int, int]:
    """Return width and height without decoding the pixels.

    Raises:
        MessageError: The data is neither JPEG nor PNG.
    """
    with _open(*_file_of(message)[:1]) as image:
        return image.size


def compressed_image_from_message(
    message: Any, depth_range_m: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Return the pixels of a ``sensor_msgs/CompressedImage`` as RGB.

    What the file says counts, not ``format``, which drivers fill in as they like; only for depth
    the format tells the unit. PNG may have 16 bits of grey.

    Args:
        message: JPEG or PNG; for depth a PNG of 16 bits, also as ``compressedDepth``.
        depth_range_m: Distances that become black and white, for a depth camera only.

    Returns:
        RGB pixels, uint8 [H, W, 3].

    Raises:
        MessageError: The data is damaged or of another type, or depth and range do not fit.
    """
    file, parameters = _file_of(message)
    is_depth = parameters is not None or message.format.startswith(("16UC1", "32FC1"))
    if is_depth or depth_range_m is not None:
        depth_range_m = require_depth_range(message.format, depth_range_m)
    with _open(file) as image:
        try:
            is_deep = image.mode.startswith("I")
            values = np.asarray(image if is_deep or image.mode == "L" else image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise MessageError(
                f"compressed image of format {message.format!r} is damaged: {error}."
            ) from error
    if depth_range_m is not None:
        if not is_deep:
            raise MessageError(
                f"compressed image of format {message.format!r} has {image.mode} pixels, but the "
                "camera has a depth_range_m; expected a PNG of 16 bits of grey."
            )
        return _depth(values.astype(np.uint16), parameters, depth_range_m)
    pixels = to_8_bit(values.astype(np.uint16)) if is_deep else values
    return np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels


def _depth(
    values: NDArray[np.uint16],
    parameters: tuple[float, float] | None,
    depth_range_m: tuple[float, float],
) -> NDArray[np.uint8]:
    if parameters is None:
        return depth_to_rgb(values, depth_range_m, unit_m=1e-3)
    # compressedDepth of metres keeps the inverse distance: depth = a / (value - b).
    a, b = parameters
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = np.where(values > 0, a / (values.astype(np.float32) - b), np.nan)
    return depth_to_rgb(metres, depth_range_m)


def _file_of(message: Any) -> tuple[bytes, tuple[float, float] | None]:
    """Return the image file, and the quantisation where it is compressedDepth of metres."""
    data = bytes(message.data)
    if "compressedDepth" not in message.format:
        return data, None
    if "rvl" in message.format.lower() or data[12:16] != _PNG_SIGNATURE:
        raise MessageError(
            f"compressed depth of format {message.format!r} is not supported; set the "
            "publisher's compressedDepth format to 'png'."
        )
    _, a, b = _DEPTH_HEADER.unpack_from(data)
    return data[12:], (a, b) if message.format.startswith("32FC1") else None


def _open(file: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(file), formats=_FILE_TYPES)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise MessageError(
            f"compressed image must be JPEG or PNG, got {len(file)} bytes that begin with "
            f"{file[:_SHOWN_BYTES].hex(' ') or 'nothing'}."
        ) from error
