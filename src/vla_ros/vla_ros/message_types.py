# SPDX-License-Identifier: MIT
"""Message types: of the sources of a robot contract, and by name."""

from __future__ import annotations

import importlib
from typing import Any

from geometry_msgs.msg import PoseStamped, WrenchStamped
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float64

from vla_core.errors import ConfigError
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


def find_message_type(name: str) -> Any:
    """Return the message of a name such as ``sensor_msgs/msg/Image``.

    Raises:
        ConfigError: It is not installed.
    """
    package, _, kind = name.replace("/msg/", "/").partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"message type {name!r} is not installed; expected the form 'package/msg/Type' of an "
            "installed package."
        ) from error
