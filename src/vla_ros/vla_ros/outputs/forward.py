# SPDX-License-Identifier: MIT
"""What the outputs to forward controllers have in common: a message without names.

Such a controller passes on what it gets in the same cycle, without interpolation and without a
timeout.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from vla_ros.conversions import command_qos
from vla_ros.outputs.base import CommandOutput
from vla_ros.outputs.joint_order import JointOrder


class ForwardOutput(CommandOutput):
    """Publishes one value per joint in the controller's order, once that is known.

    Args:
        node: Node that owns the publisher.
        target: Topic, ``<controller>/commands``.
        joints: Joints of the controller.
        every_joint: All joints of a command.
    """

    def __init__(
        self, node: Node, target: str, joints: Sequence[str], every_joint: Sequence[str]
    ) -> None:
        super().__init__(node, target, joints, every_joint)
        self._publisher = node.create_publisher(Float64MultiArray, target, command_qos())
        self._order = JointOrder(node, target, joints, self.columns)

    def publish(self, values: NDArray[np.float64]) -> None:
        """Publish the values of the output's joints, given those of all joints, [A]."""
        data = array("d", values[self._order.columns].tolist())
        self._publisher.publish(Float64MultiArray(data=data))

    def poll(self) -> None:
        """Look after the controller."""
        self._order.poll()
        if self._publisher.get_subscription_count() == 0:
            self.report(f"nobody subscribes to {self._publisher.topic_name}")

    def blocker(self) -> str:
        """Return why the controller's order of joints is not known."""
        return self._order.blocker

    def destroy(self) -> None:
        """Destroy publisher and client."""
        self._order.destroy()
        self.node.destroy_publisher(self._publisher)
