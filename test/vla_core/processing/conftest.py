# SPDX-License-Identifier: MIT
"""Messages as rosbags reads them and as rclpy delivers them."""

import array
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

TYPES = get_typestore(Stores.ROS2_JAZZY).types


class _BagMessages:
    """Messages as rosbags reads them: frozen dataclasses around numpy arrays."""

    def header(self, sec=0, nanosec=0):
        time = TYPES["builtin_interfaces/msg/Time"](sec, nanosec)
        return TYPES["std_msgs/msg/Header"](time, "camera")

    def image(self, encoding, height, width, step, data, is_bigendian=0):
        data = np.frombuffer(bytes(data), np.uint8)
        image = TYPES["sensor_msgs/msg/Image"]
        return image(self.header(), height, width, encoding, is_bigendian, step, data)

    def compressed(self, format, data):
        compressed = TYPES["sensor_msgs/msg/CompressedImage"]
        return compressed(self.header(), format, np.frombuffer(data, np.uint8))

    def joint_state(self, name, position, stamp=(0, 0)):
        position, empty = np.array(position, np.float64), np.zeros(0)
        state = TYPES["sensor_msgs/msg/JointState"]
        return state(self.header(*stamp), list(name), position, empty, empty)


class _LiveMessages:
    """Messages as rclpy delivers them: properties around array.array."""

    def __init__(self):
        self.msg = pytest.importorskip("sensor_msgs.msg", reason="needs ROS 2 messages")

    def image(self, encoding, height, width, step, data, is_bigendian=0):
        message = self.msg.Image(encoding=encoding, height=height, width=width, step=step)
        message.is_bigendian = is_bigendian
        message.data = array.array("B", bytes(data))
        return message

    def compressed(self, format, data):
        return self.msg.CompressedImage(format=format, data=array.array("B", data))

    def joint_state(self, name, position, stamp=(0, 0)):
        message = self.msg.JointState(name=list(name), position=[float(p) for p in position])
        message.header.stamp.sec, message.header.stamp.nanosec = stamp
        return message


@pytest.fixture(params=["bag", "live"])
def messages(request):
    """Messages of both kinds that the decoders must read alike."""
    return _BagMessages() if request.param == "bag" else _LiveMessages()


@pytest.fixture(scope="session")
def observed():
    """Return the module ``observed.py`` beside this file: a robot as the buffer hears it."""
    specification = importlib.util.spec_from_file_location(
        "test_observed", Path(__file__).with_name("observed.py")
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
