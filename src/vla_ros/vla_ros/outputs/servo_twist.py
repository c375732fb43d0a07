# SPDX-License-Identifier: MIT
"""Command MoveIt Servo by the velocity of the tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from geometry_msgs.msg import TwistStamped, Vector3
from numpy.typing import NDArray
from rclpy.node import Node

from vla_core.processing.contract import JointLimits
from vla_core.processing.kinematics import KinematicChain
from vla_ros.outputs.base import Command
from vla_ros.outputs.servo import ServoOutput, chain_columns
from vla_ros.outputs.velocity_command import VelocityCommand


class ServoTwistOutput(ServoOutput):
    """Publishes the velocity of the tool link that the joint velocities make, in base axes.

    Args:
        node: Node that owns publisher and clients.
        target: Name of the servo node.
        joints: Joints that it moves.
        limits: Limits of all joints of a command, in its order.
        period_s: Time between two commands.
        chain: From the base to the tool.
        base_link: Name of the chain's base.

    Raises:
        ConfigError: The chain is not made of exactly these joints.
    """

    def __init__(
        self,
        node: Node,
        target: str,
        joints: Sequence[str],
        limits: Mapping[str, JointLimits],
        *,
        period_s: float,
        chain: KinematicChain,
        base_link: str,
    ) -> None:
        self._chain = chain
        self._chain_columns = chain_columns(chain, joints, tuple(limits), "servo_twist")
        super().__init__(
            node,
            target,
            joints,
            tuple(limits),
            output="servo_twist",
            message_type=TwistStamped,
            topic="delta_twist_cmds",
            frame_id=base_link,
        )
        self._velocity = VelocityCommand(limits, period_s)

    def send(self, command: Command) -> None:
        """Publish the velocity of the tool, in the units that Servo is set to."""
        velocities = self._velocity.next(command)[self._chain_columns]
        twist = self._chain.jacobian(command.position[self._chain_columns]) @ velocities
        message = TwistStamped()
        message.twist.linear = _vector(twist[:3] / self.link.scale("linear"))
        message.twist.angular = _vector(twist[3:] / self.link.scale("rotational"))
        self.publish(message)

    def stop(self) -> None:
        """Have the servo node paused."""
        self._velocity.reset()
        super().stop()


def _vector(values: NDArray[np.float64]) -> Vector3:
    x, y, z = values.tolist()
    return Vector3(x=x, y=y, z=z)
