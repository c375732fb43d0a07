# SPDX-License-Identifier: MIT
"""Stream trajectories to the topic of a joint_trajectory_controller.

Right for the defaults of every distribution since Humble: the stamp is 0 (start now), no step is
in the past, all joints of the controller are there, and the last velocity is exactly 0. A plan
ends in a stop, so the arm comes to rest if no further message arrives, and overlaps the one
before, so one lost message does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from vla_ros.conversions import command_qos, joint_trajectory_message
from vla_ros.outputs.base import Command, CommandOutput
from vla_ros.outputs.reference_watch import ReferenceWatch

# The controller may start later than this node and is found some time after that.
_POLLS_ALONE = 15


class JointTrajectoryOutput(CommandOutput):
    """Publishes every plan.

    Args:
        node: Node that owns the publisher.
        target: Topic, ``<controller>/joint_trajectory``.
        joints: Joints of the controller.
        every_joint: All joints of a command.
        period_s: Time between two commands.
    """

    def __init__(
        self,
        node: Node,
        target: str,
        joints: Sequence[str],
        every_joint: Sequence[str],
        *,
        period_s: float,
    ) -> None:
        super().__init__(node, target, joints, every_joint)
        self._period_s = period_s
        self._publisher = node.create_publisher(JointTrajectory, target, command_qos())
        self._num_alone = 0
        self._watch = ReferenceWatch(node, target, joints, period_s)

    def send(self, command: Command) -> None:
        """Publish the plan."""
        self._publisher.publish(plan_message(self.joints, command, self.columns, self._period_s))
        self._watch.sent(command.now_ns, command.position[self.columns])

    def poll(self) -> None:
        """Look whether anybody listens, and where the controller's reference is."""
        is_alone = self._publisher.get_subscription_count() == 0
        self._num_alone = self._num_alone + 1 if is_alone else 0
        if self._num_alone > _POLLS_ALONE:
            self.report(f"nobody subscribes to {self._publisher.topic_name}")
        if problem := self._watch.find_problem():
            self.report(problem)

    def destroy(self) -> None:
        """Destroy publisher and subscription."""
        self._watch.destroy()
        self.node.destroy_publisher(self._publisher)


def plan_message(
    joints: Sequence[str], command: Command, columns: NDArray[np.intp], period_s: float
) -> JointTrajectory:
    """Return the plan of some joints as a trajectory that starts when it arrives.

    Args:
        joints: Their names.
        command: The plan, one row per tick.
        columns: Their columns in it.
        period_s: Time of a tick.
    """
    times_s = period_s * np.arange(1, len(command.positions) + 1)
    return joint_trajectory_message(
        joints, command.positions[:, columns], command.velocities[:, columns], times_s
    )
