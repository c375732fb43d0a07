# SPDX-License-Identifier: MIT
"""Command a forward controller for positions, as of forward_command_controller.

It passes on what it gets in the same cycle, without interpolation and without a timeout.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from vla_ros.conversions import command_qos
from vla_ros.outputs.base import Command, CommandOutput
from vla_ros.outputs.joint_order import JointOrder


class ForwardPositionOutput(CommandOutput):
    """Publishes the position of the next tick in every tick.

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

    def send(self, command: Command) -> None:
        """Publish the positions in the controller's order."""
        values = command.positions[0][self._order.columns]
        self._publisher.publish(Float64MultiArray(data=array("d", values.tolist())))

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
