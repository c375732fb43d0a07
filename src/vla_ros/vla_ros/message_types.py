# SPDX-License-Identifier: MIT
"""Which message type a source of the robot contract has."""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import PoseStamped, WrenchStamped
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float64

from vla_core.processing.contract import CameraContract

INPUT_MESSAGE_TYPES: dict[str, type[Any]] = {
    "wrench": WrenchStamped,
    "pose": PoseStamped,
    "float64": Float64,
}
"""Message of every type of further input."""


def camera_message_type(camera: CameraContract) -> type[Any]:
    """Return the message of a camera's transport."""
    return CompressedImage if camera.transport == "compressed" else Image


def message_type_name(message_type: type[Any]) -> str:
    """Return the name that the ROS graph shows, such as ``sensor_msgs/msg/Image``."""
    package, kind = message_type.__module__.split(".")[:2]
    return f"{package}/{kind}/{message_type.__name__}"
