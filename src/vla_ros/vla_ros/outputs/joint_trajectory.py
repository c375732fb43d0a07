# SPDX-License-Identifier: MIT
"""Stream trajectories to the topic of a joint_trajectory_controller.

Right for the defaults of every distribution since Humble: all joints of the controller are there,
the last velocity is exactly 0, and a trajectory begins with the command of the tick whose stamp it
has. So it has begun when it arrives, and is not entered from wherever the arm is. Its first ticks
are those of the one before: one that is lost, or up to a tick late, does no harm. It ends in a
stop, so the arm comes to rest if no further message arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from vla_core.inference.motion import COMMIT_S
from vla_ros.conversions import command_qos, joint_trajectory_message
from vla_ros.outputs.base import Command, CommandOutput
from vla_ros.outputs.reference_watch import ReferenceWatch
from vla_ros.outputs.replacement_check import ReplacementCheck

# The controller may start later than this node and is found some time after that.
_POLLS_ALONE = 15
# A trajectory that has ended when it arrives is rejected; the stop at its end lasts this long.
_REST_S = 0.5


class TrajectoryOutput(CommandOutput):
    """What topic and action of a joint_trajectory_controller have in common.

    Args:
        node: Node that owns publishers and clients.
        target: Topic or action of the controller.
        joints: Joints of the controller.
        every_joint: All joints of a command.
        period_s: Time between two commands.
    """

    commit_s = COMMIT_S
    follows_plans = True

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
        self.period_s = period_s
        self._watch = ReferenceWatch(node, target, joints, period_s)
        controller = self._watch.controller
        self._replacement = ReplacementCheck(node, controller) if controller else None

    def send(self, command: Command) -> None:
        """Remember where the arm is told to be."""
        self._watch.sent(command.now_ns, command.position[self.columns])

    def poll(self) -> None:
        """Look where the controller's reference is, and how it is set up."""
        if problem := self._watch.find_problem():
            self.report(problem)
        if self._replacement is not None and (problem := self._replacement.find_problem()):
            self.report(problem)

    def destroy(self) -> None:
        """Destroy subscription and client."""
        self._watch.destroy()
        if self._replacement is not None:
            self._replacement.destroy()


class JointTrajectoryOutput(TrajectoryOutput):
    """Publishes every plan; `TrajectoryOutput` has the arguments."""

    def __init__(self, node: Node, target: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(node, target, *args, **kwargs)
        self._publisher = node.create_publisher(JointTrajectory, target, command_qos())
        self._num_alone = 0

    def send(self, command: Command) -> None:
        """Publish the plan."""
        super().send(command)
        self._publisher.publish(plan_message(self.joints, command, self.columns, self.period_s))

    def poll(self) -> None:
        """Look whether anybody listens, and where the controller's reference is."""
        super().poll()
        is_alone = self._publisher.get_subscription_count() == 0
        self._num_alone = self._num_alone + 1 if is_alone else 0
        if self._num_alone > _POLLS_ALONE:
            self.report(f"nobody subscribes to {self._publisher.topic_name}")

    def destroy(self) -> None:
        """Destroy publisher and subscription."""
        super().destroy()
        self.node.destroy_publisher(self._publisher)


def plan_message(
    joints: Sequence[str], command: Command, columns: NDArray[np.intp], period_s: float
) -> JointTrajectory:
    """Return the plan of some joints as a trajectory that starts with the tick's own command.

    Args:
        joints: Their names.
        command: The plan, one row per tick.
        columns: Their columns in it.
        period_s: Time of a tick.
    """
    positions = np.vstack((command.position, command.positions, command.positions[-1]))
    velocities = np.vstack((command.velocity, command.velocities, command.velocities[-1]))
    times_s = period_s * np.arange(len(positions))
    times_s[-1] += _REST_S
    return joint_trajectory_message(
        joints,
        positions[:, columns],
        velocities[:, columns],
        times_s,
        stamp_ns=command.now_ns,
    )
