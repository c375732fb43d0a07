# SPDX-License-Identifier: MIT
"""Command a forward controller for velocities: the last one it gets stays in force."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from vla_core.processing.contract import JointLimits
from vla_ros.conversions import command_qos
from vla_ros.outputs.base import Command, CommandOutput
from vla_ros.outputs.joint_order import JointOrder
from vla_ros.outputs.velocity_command import VelocityCommand


class ForwardVelocityOutput(CommandOutput):
    """Publishes velocities in every tick, and zeros at the end of a motion.

    Args:
        node: Node that owns the publisher.
        target: Topic, ``<controller>/commands``.
        joints: Joints of the controller.
        limits: Limits of all joints of a command, in its order.
        period_s: Time between two commands.
    """

    def __init__(
        self,
        node: Node,
        target: str,
        joints: Sequence[str],
        limits: Mapping[str, JointLimits],
        *,
        period_s: float,
    ) -> None:
        super().__init__(node, target, joints, tuple(limits))
        self._publisher = node.create_publisher(Float64MultiArray, target, command_qos())
        self._order = JointOrder(node, target, joints, self.columns)
        self._velocity = VelocityCommand(limits, period_s)

    def send(self, command: Command) -> None:
        """Publish the velocities in the controller's order."""
        values = self._velocity.next(command)[self._order.columns]
        self._publish(values.tolist())

    def stop(self) -> None:
        """Publish zeros."""
        self._velocity.reset()
        self._publish(np.zeros(len(self.joints)).tolist())

    def _publish(self, values: list[float]) -> None:
        self._publisher.publish(Float64MultiArray(data=array("d", values)))

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
