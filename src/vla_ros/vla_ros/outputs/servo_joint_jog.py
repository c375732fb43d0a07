# SPDX-License-Identifier: MIT
"""Command MoveIt Servo by joint velocities."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

from rclpy.node import Node

from vla_core.processing.contract import JointLimits
from vla_ros.outputs.base import Command, import_interface
from vla_ros.outputs.servo import ServoOutput
from vla_ros.outputs.velocity_command import VelocityCommand


class ServoJointJogOutput(ServoOutput):
    """Publishes control_msgs/JointJog.

    Args:
        node: Node that owns publisher and clients.
        target: Name of the servo node.
        joints: Joints that it moves.
        limits: Limits of all joints of a command, in its order.
        period_s: Time between two commands.
        frame_id: Any frame of the robot.

    Raises:
        ConfigError: ``control_msgs`` is not installed.
    """

    def __init__(
        self,
        node: Node,
        target: str,
        joints: Sequence[str],
        limits: Mapping[str, JointLimits],
        *,
        period_s: float,
        frame_id: str,
    ) -> None:
        self._message_type = import_interface("control_msgs.msg", "servo_joint_jog").JointJog
        super().__init__(
            node,
            target,
            joints,
            tuple(limits),
            output="servo_joint_jog",
            message_type=self._message_type,
            topic="delta_joint_cmds",
            frame_id=frame_id,
        )
        self._period_s = period_s
        self._velocity = VelocityCommand(limits, period_s)

    def send(self, command: Command) -> None:
        """Publish the velocities until the next tick, in the units that Servo is set to."""
        velocities = self._velocity.next(command)[self.columns] / self.link.scale("joint")
        self.publish(
            self._message_type(
                joint_names=list(self.joints),
                velocities=array("d", velocities.tolist()),
                duration=self._period_s,
            )
        )

    def stop(self) -> None:
        """Have the servo node paused."""
        self._velocity.reset()
        super().stop()
