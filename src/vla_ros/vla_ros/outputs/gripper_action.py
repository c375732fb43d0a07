# SPDX-License-Identifier: MIT
"""Drive a gripper by the actions GripperCommand or ParallelGripperCommand of control_msgs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import JointState

from vla_core.processing.contract import GripperContract
from vla_ros.outputs.action_goals import ActionGoals
from vla_ros.outputs.base import Command, CommandOutput, import_interface
from vla_ros.outputs.gripper_goals import GripperGoals


class GripperActionOutput(CommandOutput):
    """Sends one goal per change of the gripper.

    Args:
        node: Node that owns the client.
        joint: Joint of the gripper.
        gripper: How it is driven; its ``output`` names the action.
        every_joint: All joints of a command.

    Raises:
        ConfigError: ``control_msgs`` is not installed.
    """

    def __init__(
        self, node: Node, joint: str, gripper: GripperContract, every_joint: Sequence[str]
    ) -> None:
        super().__init__(node, gripper.topic, (joint,), every_joint)
        self._actions = import_interface("control_msgs.action", gripper.output)
        self._is_parallel = gripper.output == "parallel_gripper_command"
        self._max_effort = gripper.max_effort
        self._column = int(self.columns[0])
        self._decision = GripperGoals(gripper)
        kind = "ParallelGripperCommand" if self._is_parallel else "GripperCommand"
        self._goals = ActionGoals(
            node,
            getattr(self._actions, kind),
            gripper.topic,
            describe=_describe,
            report=self.report,
        )

    def send(self, command: Command) -> None:
        """Have a goal sent if the gripper is to do something else than before."""
        position = float(command.positions[0, self._column])
        goal = self._decision.decide(position, command.now_ns)
        if goal is not None:
            self._goals.send(self._goal(goal))

    def _goal(self, position: float) -> Any:
        if self._is_parallel:
            state = JointState(name=list(self.joints), position=[position])
            if self._max_effort > 0.0:
                state.effort = [self._max_effort]
            return self._actions.ParallelGripperCommand.Goal(command=state)
        goal = self._actions.GripperCommand.Goal()
        goal.command.position = position
        goal.command.max_effort = self._max_effort
        return goal

    def poll(self) -> None:
        """Look after the server; one that has just come gets the last goal, too."""
        if self._goals.poll():
            self._decision.forget()

    def blocker(self) -> str:
        """Return that the server is not there."""
        return self._goals.blocker

    def destroy(self) -> None:
        """Destroy the client; the gripper keeps its last goal."""
        self._goals.destroy()


def _describe(result: Any, end: str) -> str:
    # Fingers that stall have something between them, which is what grippers are for.
    return f"the gripper's goal {end} before it was reached" if end and not result.stalled else ""
