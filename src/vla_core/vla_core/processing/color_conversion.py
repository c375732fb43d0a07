# SPDX-License-Identifier: MIT
"""Bayer patterns and YUV as RGB, through cv_bridge where it is installed, else rosbags-image.

Both call OpenCV's ``cvtColor``, so the pixels are the same. They get rows without padding in this
machine's byte order, and the names of the encodings that both know in every version.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError

BAYER_ENCODINGS = tuple(
    f"bayer_{pattern}{bits}" for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)
)
_OLD_NAMES = {
    "yuv422": "yuv422",
    "uyvy": "yuv422",
    "yuv422_yuy2": "yuv422_yuy2",
    "yuyv": "yuv422_yuy2",
}
YUV_ENCODINGS = tuple(_OLD_NAMES)
"""Two bytes a pixel, the chroma of a pair in turn: U Y V Y, or Y U Y V."""
SEMI_PLANAR_ENCODINGS = ("nv12", "nv21")
"""All luma, then chroma of every block of four pixels: U V, or V U."""

_Convert = Callable[[Any, str], NDArray[Any]]


def bayer_to_rgb(mosaic: NDArray[Any], encoding: str) -> NDArray[Any]:
    """Interpolate the colours of a Bayer pattern.

    Args:
        mosaic: One colour a pixel, uint8 or uint16 [H, W].
        encoding: One of ``BAYER_ENCODINGS``.

    Returns:
        RGB of the same type, [H, W, 3].

    Raises:
        MessageError: Neither cv_bridge nor rosbags-image is installed, or it fails.
    """
    return _convert(mosaic, encoding, "rgb8" if mosaic.dtype == np.uint8 else "rgb16")


def yuv_to_rgb(pairs: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Convert YUV 4:2:2 by BT.601.

    Args:
        pairs: Luma and chroma in the order of the encoding, uint8 [H, W, 2].
        encoding: One of ``YUV_ENCODINGS``.

    Returns:
        RGB, uint8 [H, W, 3].

    Raises:
        MessageError: The width is odd, or neither cv_bridge nor rosbags-image is installed.
    """
    if pairs.shape[1] % 2:
        raise MessageError(f"image of {encoding} must have an even width, got {pairs.shape[1]}.")
    return _convert(pairs, _OLD_NAMES[encoding], "rgb8")


def semi_planar_to_rgb(planes: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Convert YUV 4:2:0 by BT.601.

    Args:
        planes: Luma above chroma, uint8 [H * 3 / 2, W], H and W even.
        encoding: One of ``SEMI_PLANAR_ENCODINGS``.

    Returns:
        RGB, uint8 [H, W, 3].

    Raises:
        MessageError: Neither cv_bridge nor rosbags-image is installed.
    """
    height = len(planes) * 2 // 3
    chroma = planes[height:].repeat(2, axis=0)
    if encoding == "nv21":
        chroma = chroma.reshape(height, -1, 2)[..., ::-1].reshape(height, -1)
    return yuv_to_rgb(np.stack((planes[:height], chroma), axis=-1), "yuyv")


def _convert(pixels: NDArray[Any], encoding: str, target: str) -> NDArray[Any]:
    convert, name = _converter()
    packed = np.ascontiguousarray(pixels)
    message = SimpleNamespace(
        height=len(packed),
        width=packed.shape[1],
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=packed.strides[0],
        data=packed.tobytes(),
    )
    try:
        return convert(message, target)
    except Exception as error:  # Each of the two, and OpenCV, has exceptions of its own.
        raise MessageError(f"{name} cannot convert {encoding} to RGB: {error}.") from error


@functools.cache
def _converter() -> tuple[_Convert, str]:
    try:
        from cv_bridge import CvBridge

        return CvBridge().imgmsg_to_cv2, "cv_bridge"
    except ImportError:
        pass
    try:
        from rosbags.image import message_to_cvimage
    except ImportError as error:
        raise MessageError(
            "Bayer and YUV images need cv_bridge (a package of ROS) or rosbags-image with OpenCV; "
            f"install one, as with pip install 'vla_core[bags]' ({error})."
        ) from error
    return message_to_cvimage, "rosbags-image"
