# SPDX-License-Identifier: MIT
"""Drive a gripper by a std_msgs/Float64 topic with the position of its joint."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node
from std_msgs.msg import Float64

from vla_core.processing.contract import GripperContract
from vla_ros.conversions import command_qos
from vla_ros.outputs.base import Command, CommandOutput


class GripperFloat64Output(CommandOutput):
    """Publishes the position of the next tick in every tick.

    Args:
        node: Node that owns the publisher.
        joint: Joint of the gripper.
        gripper: How it is driven.
        every_joint: All joints of a command.
    """

    def __init__(
        self, node: Node, joint: str, gripper: GripperContract, every_joint: Sequence[str]
    ) -> None:
        super().__init__(node, gripper.topic, (joint,), every_joint)
        self._column = int(self.columns[0])
        self._publisher = node.create_publisher(Float64, gripper.topic, command_qos())

    def send(self, command: Command) -> None:
        """Publish the position."""
        self._publisher.publish(Float64(data=float(command.positions[0, self._column])))

    def poll(self) -> None:
        """Look whether anybody listens."""
        if self._publisher.get_subscription_count() == 0:
            self.report(f"nobody subscribes to {self._publisher.topic_name}")

    def destroy(self) -> None:
        """Destroy the publisher."""
        self.node.destroy_publisher(self._publisher)
