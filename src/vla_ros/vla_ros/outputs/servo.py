# SPDX-License-Identifier: MIT
"""What the three outputs to MoveIt Servo have in common: its link, a topic, fresh stamps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Header

from vla_core.errors import ConfigError
from vla_core.processing.kinematics import KinematicChain
from vla_ros.conversions import command_qos
from vla_ros.outputs.base import CommandOutput
from vla_ros.outputs.servo_link import ServoLink


class ServoOutput(CommandOutput):
    """Publishes commands to a servo node that is made ready for them and paused after them.

    Args:
        node: Node that owns publisher and clients.
        target: Name of the servo node.
        joints: Joints that it moves.
        every_joint: All joints of a command.
        output: The contract's name of the output.
        message_type: Class of the commands.
        topic: Topic of the servo node that takes them.
        frame_id: Frame in whose axes they are given; Servo refuses an empty one.
    """

    def __init__(
        self,
        node: Node,
        target: str,
        joints: Sequence[str],
        every_joint: Sequence[str],
        *,
        output: str,
        message_type: Any,
        topic: str,
        frame_id: str,
    ) -> None:
        super().__init__(node, target, joints, every_joint)
        self.link = ServoLink(node, target, output, self.report)
        self._frame_id = frame_id
        self._publisher = node.create_publisher(message_type, f"{target}/{topic}", command_qos())

    def publish(self, message: Any) -> None:
        """Publish a command, stamped now: Servo halts when a stamp is a tenth of a second old."""
        stamp = self.node.get_clock().now().to_msg()
        message.header = Header(stamp=stamp, frame_id=self._frame_id)
        self._publisher.publish(message)

    def wake(self) -> None:
        """Have the servo node switched and unpaused."""
        self.link.wake()

    def stop(self) -> None:
        """Have the servo node paused, so that it does not pre-empt a plan of MoveIt."""
        self.link.rest()

    def poll(self) -> None:
        """Look after the servo node."""
        self.link.poll()

    def blocker(self) -> str:
        """Return why the servo node takes no commands."""
        return self.link.blocker()

    def destroy(self) -> None:
        """Destroy publisher and clients."""
        self.link.destroy()
        self.node.destroy_publisher(self._publisher)


def chain_columns(
    chain: KinematicChain, joints: Sequence[str], every_joint: Sequence[str], output: str
) -> list[int]:
    """Return the columns of a chain's joints in a command.

    Args:
        chain: From the base to the tool.
        joints: Joints that the output is sent.
        every_joint: All joints of a command.
        output: The contract's name of the output.

    Raises:
        ConfigError: The chain is not made of exactly these joints.
    """
    if sorted(chain.joints) != sorted(joints):
        raise ConfigError(
            f"output {output!r} moves the joints between base_link and tip_link, "
            f"{', '.join(chain.joints)}, but is sent {', '.join(joints)}; give every other joint "
            "an output of its own in grippers."
        )
    return [list(every_joint).index(joint) for joint in chain.joints]
