# SPDX-License-Identifier: MIT
"""Stream plans as goals of a FollowJointTrajectory action.

An action costs far more than a message, and each new goal makes the server abort the one before.
So a goal goes out only when the plan has left the way that the last goal leads: for a new chunk,
for a stop, or when the end of the last goal comes near.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from vla_ros.outputs.action_goals import ActionGoals
from vla_ros.outputs.base import Command, import_interface
from vla_ros.outputs.joint_trajectory import TrajectoryOutput, plan_message

_MIN_INTERVAL_S = 0.04
_MARGIN_S = 0.06  # how long before its stop tail a goal is replaced
_TOLERANCE = 1e-9  # rad or m

RESULTS = {
    -1: "the goal is invalid",
    -2: "its joints are not those of the controller",
    -3: "its stamp is in the past",
    -4: "the arm has left the tolerance of its path",
    -5: "the arm has not reached the end within its tolerance",
}
"""Words for the error codes of ``control_msgs/action/FollowJointTrajectory``."""


class FollowJointTrajectoryOutput(TrajectoryOutput):
    """Sends plans as goals; `TrajectoryOutput` has the arguments.

    Raises:
        ConfigError: ``control_msgs`` is not installed.
    """

    lookahead_s = 0.3

    def __init__(self, node: Node, target: str, *args: Any, **kwargs: Any) -> None:
        actions = import_interface("control_msgs.action", "follow_joint_trajectory")
        self._action = actions.FollowJointTrajectory
        super().__init__(node, target, *args, **kwargs)
        self._num_margin = max(2, math.ceil(_MARGIN_S / self.period_s))
        self._goals = ActionGoals(
            node, self._action, target, describe=_describe, report=self.report
        )
        self._promised: NDArray[np.float64] | None = None
        self._promised_ns = 0

    def send(self, command: Command) -> None:
        """Have the plan sent if it differs from what the last goal leads to."""
        super().send(command)
        if not self._is_due(command):
            return
        self._promised = command.positions[:, self.columns]
        self._promised_ns = command.now_ns
        trajectory = plan_message(self.joints, command, self.columns, self.period_s)
        self._goals.send(self._action.Goal(trajectory=trajectory))

    def _is_due(self, command: Command) -> bool:
        if self._promised is None:
            return True
        elapsed_s = (command.now_ns - self._promised_ns) * 1e-9
        if elapsed_s < 0.0:  # the clock was set back
            return True
        if elapsed_s < _MIN_INTERVAL_S and not command.is_stopping:
            return False
        first = round(elapsed_s / self.period_s)
        rows = np.arange(self._num_margin)
        # Past its end a plan rests at its last point.
        old = self._promised[np.minimum(first + rows, len(self._promised) - 1)]
        new = command.positions[np.minimum(rows, len(command.positions) - 1)][:, self.columns]
        return bool(np.abs(new - old).max() > _TOLERANCE)

    def stop(self) -> None:
        """Forget the last goal: the next motion needs one of its own."""
        self._promised = None

    def poll(self) -> None:
        """Look after the server and where the controller's reference is."""
        super().poll()
        self._goals.poll()

    def blocker(self) -> str:
        """Return that the server is not there."""
        return self._goals.blocker

    def destroy(self) -> None:
        """Destroy client and subscription; the last goal ends in a stop."""
        super().destroy()
        self._goals.destroy()


def _describe(result: Any, end: str) -> str:
    if result.error_code == 0:
        return f"a goal {end}" if end else ""
    words = RESULTS.get(result.error_code, f"error code {result.error_code}")
    return f"{words}; {result.error_string}" if result.error_string else words
