# SPDX-License-Identifier: MIT
"""Read ROS messages by attribute: from rclpy on the robot, from ``rosbags`` out of a bag.

Both kinds have the same fields, so training and the robot decode with the same code. Nothing is
repaired: data that is not what its message says it is raises a ``MessageError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError
from vla_core.processing.value_checks import quoted

# Channels in memory, and the selection that turns them into RGB without a copy.
_ENCODINGS: dict[str, tuple[int, slice]] = {
    "rgb8": (3, slice(None)),
    "bgr8": (3, slice(None, None, -1)),
    "rgba8": (4, slice(0, 3)),
    "bgra8": (4, slice(2, None, -1)),
    "mono8": (1, slice(None)),
}
SUPPORTED_ENCODINGS = tuple(_ENCODINGS)


def time_ns(time: Any) -> int:
    """Return a ``builtin_interfaces/Time`` in nanoseconds."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def stamp_ns(message: Any) -> int:
    """Return the header stamp of a message in nanoseconds."""
    return time_ns(message.header.stamp)


def image_from_message(message: Any) -> NDArray[np.uint8]:
    """Return the pixels of a ``sensor_msgs/Image`` as RGB.

    The result is a view of the message, for every encoding: it may be read-only or have negative
    strides, and lives as long as the message does. Padding at the end of rows is left out;
    ``is_bigendian`` has no meaning for the supported encodings, which have one byte a channel.

    Args:
        message: Image with one of ``SUPPORTED_ENCODINGS``.

    Returns:
        RGB pixels, uint8 [H, W, 3].

    Raises:
        MessageError: The encoding is not supported, or size, step and data contradict each other.
    """
    encoding, data = message.encoding, message.data
    height, width, step = int(message.height), int(message.width), int(message.step)
    if encoding not in _ENCODINGS:
        raise MessageError(
            f"image encoding {encoding!r} is not supported; supported: {quoted(_ENCODINGS)}."
        )
    if height == 0 or width == 0:
        raise MessageError(f"image must have pixels, got {width}x{height}.")
    channels, to_rgb = _ENCODINGS[encoding]
    row_bytes = width * channels
    if step < row_bytes:
        raise MessageError(
            f"image step must be at least {row_bytes} bytes for {width} pixels of {encoding}, "
            f"got {step}."
        )
    if len(data) != step * height:
        raise MessageError(
            f"image data must be {step * height} bytes (step {step} x height {height}), "
            f"got {len(data)}."
        )
    rows = np.frombuffer(data, dtype=np.uint8).reshape(height, step)[:, :row_bytes]
    pixels = rows.reshape(height, width, channels)[..., to_rgb]
    return np.broadcast_to(pixels, (height, width, 3)) if channels == 1 else pixels


def joint_positions_from_message(message: Any, joints: Sequence[str]) -> NDArray[np.float64]:
    """Return the positions of a ``sensor_msgs/JointState`` in the order asked for.

    Args:
        message: Joint states; more joints than asked for are allowed, in any order.
        joints: Names of the joints to return.

    Returns:
        Positions in rad or m, float64 [len(joints)].

    Raises:
        MessageError: A joint is lacking or named twice, a position is missing or not finite.
    """
    names, positions = list(message.name), message.position
    if len(positions) != len(names):
        raise MessageError(
            f"joint state must have one position per name, got {len(positions)} positions for "
            f"{len(names)} names."
        )
    index = {name: i for i, name in enumerate(names)}
    if len(index) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise MessageError(f"joint state names {quoted(twice)} more than once.")
    missing = [joint for joint in joints if joint not in index]
    if missing:
        raise MessageError(f"joint state lacks {quoted(missing)}; it has {quoted(names)}.")
    values = np.array([positions[index[joint]] for joint in joints], dtype=np.float64)
    if not np.isfinite(values).all():
        wrong = [f"{j} = {v}" for j, v in zip(joints, values, strict=True) if not np.isfinite(v)]
        raise MessageError(f"joint positions must be finite, got {', '.join(wrong)}.")
    return values
