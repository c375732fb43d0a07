# SPDX-License-Identifier: MIT
"""Get the robot's URDF from where the contract says it is."""

from __future__ import annotations

import time

from rclpy.node import Node
from std_msgs.msg import String

from vla_core.errors import ConfigError
from vla_core.processing.contract import KinematicsContract
from vla_core.processing.urdf import load_urdf
from vla_ros.conversions import latched_qos
from vla_ros.polled_subscription import PolledSubscription

_PREFIX = "topic://"


def read_urdf(node: Node, kinematics: KinematicsContract, patience_s: float = 5.0) -> str:
    """Return the text of the URDF.

    Args:
        node: Node that subscribes if it is a topic.
        kinematics: The contract's part about it.
        patience_s: How long a latched topic may take to arrive.

    Raises:
        ConfigError: It cannot be read, or nobody publishes it.
    """
    if not kinematics.urdf.startswith(_PREFIX):
        return load_urdf(kinematics)
    topic = kinematics.urdf.removeprefix(_PREFIX)
    subscription = PolledSubscription(node, String, topic, latched_qos())
    try:
        deadline = time.monotonic() + patience_s
        while (message := subscription.take()) is None:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"kinematics.urdf '{kinematics.urdf}': nobody has published "
                    f"{subscription.topic} for {patience_s:g} s; start robot_state_publisher."
                )
            time.sleep(0.02)
    finally:
        subscription.destroy()
    return str(message.data)
