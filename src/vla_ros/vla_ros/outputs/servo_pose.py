# SPDX-License-Identifier: MIT
"""Command MoveIt Servo, of Jazzy and newer, by the pose of the tool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point, PoseStamped, Quaternion
from numpy.typing import NDArray
from rclpy.node import Node

from vla_core.processing.kinematics import KinematicChain, vector_from_rotation
from vla_ros.outputs.base import Command
from vla_ros.outputs.servo import ServoOutput, chain_columns


class ServoPoseOutput(ServoOutput):
    """Publishes where the tool is to be at the next tick, in axes of the base link.

    Args:
        node: Node that owns publisher and clients.
        target: Name of the servo node.
        joints: Joints that it moves.
        every_joint: All joints of a command.
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
        every_joint: Sequence[str],
        *,
        chain: KinematicChain,
        base_link: str,
    ) -> None:
        self._chain = chain
        self._chain_columns = chain_columns(chain, joints, every_joint, "servo_pose")
        super().__init__(
            node,
            target,
            joints,
            every_joint,
            output="servo_pose",
            message_type=PoseStamped,
            topic="pose_target_cmds",
            frame_id=base_link,
        )

    def send(self, command: Command) -> None:
        """Publish the pose."""
        position, rotation = self._chain.tool_pose(command.positions[0, self._chain_columns])
        message = PoseStamped()
        x, y, z = position.tolist()
        message.pose.position = Point(x=x, y=y, z=z)
        message.pose.orientation = quaternion_message(rotation)
        self.publish(message)


def quaternion_message(rotation: NDArray[np.float64]) -> Quaternion:
    """Return a rotation matrix [3, 3] as a unit quaternion."""
    vector = vector_from_rotation(rotation)
    angle = float(np.linalg.norm(vector))
    # sin(angle / 2) / angle, which is 1 / 2 where the angle vanishes.
    x, y, z = (0.5 * np.sinc(angle / (2.0 * np.pi)) * vector).tolist()
    return Quaternion(x=x, y=y, z=z, w=float(np.cos(0.5 * angle)))
