# SPDX-License-Identifier: MIT
"""The frame of a camera of the contract, from whatever message its transport brings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError
from vla_core.processing.compressed_images import compressed_image_from_message, compressed_size
from vla_core.processing.contract import CameraContract
from vla_core.processing.image_encodings import image_from_message


def frame_from_message(message: Any, camera: CameraContract) -> NDArray[np.uint8]:
    """Return the frame that a camera sent.

    Args:
        message: ``sensor_msgs/Image``, or ``CompressedImage`` for a compressed transport; of
            rclpy or of ``rosbags``.
        camera: Transport, size and depth range.

    Returns:
        RGB pixels, uint8 [H, W, 3]; a view of the message where that is possible.

    Raises:
        MessageError: The message cannot be decoded, or has another size than the contract says.
    """
    is_compressed = camera.transport == "compressed"
    size = compressed_size(message) if is_compressed else (int(message.width), int(message.height))
    if size != (camera.width, camera.height):
        raise MessageError(
            f"frames are {size[0]}x{size[1]}, the contract says {camera.width}x{camera.height}."
        )
    decode = compressed_image_from_message if is_compressed else image_from_message
    return decode(message, camera.depth_range_m)
