# SPDX-License-Identifier: MIT
"""Command a forward controller for velocities: the last one it gets stays in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rclpy.node import Node

from vla_core.processing.contract import JointLimits
from vla_ros.outputs.base import Command
from vla_ros.outputs.forward import ForwardOutput
from vla_ros.outputs.velocity_command import VelocityCommand


class ForwardVelocityOutput(ForwardOutput):
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
        self._num_joints = len(limits)
        self._velocity = VelocityCommand(limits, period_s)

    def send(self, command: Command) -> None:
        """Publish the velocities."""
        self.publish(self._velocity.next(command))

    def stop(self) -> None:
        """Publish zeros."""
        self._velocity.reset()
        self.publish(np.zeros(self._num_joints))
