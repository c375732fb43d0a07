# SPDX-License-Identifier: MIT
"""Notice a joint_trajectory_controller that starts every trajectory anew when it arrives.

Since Lyrical it does so unless it is told otherwise, and then the arm steps by one update whenever
a message comes early or late. Controllers before that do not have the parameter.
"""

from __future__ import annotations

from rclpy.node import Node

from vla_ros.outputs.remote_parameters import RemoteParameters

_PARAMETER = "allow_trajectory_replacement"
# It may be set while the controller runs.
_POLLS_BETWEEN_QUESTIONS = 10


class ReplacementCheck:
    """Asks a controller for its parameter, until the answer is the right one.

    Args:
        node: Node that asks.
        controller: Name of the controller.
    """

    def __init__(self, node: Node, controller: str) -> None:
        self._controller = controller
        self._parameters = RemoteParameters(node, controller, [_PARAMETER])
        self._num_polls = 0

    def find_problem(self) -> str:
        """Return what the controller has to be told; empty if nothing, or if it does not say."""
        self._parameters.poll()
        if not self._parameters.values.get(_PARAMETER, False):
            return ""
        self._num_polls += 1
        if self._num_polls % _POLLS_BETWEEN_QUESTIONS == 0:
            self._parameters.ask_again()
        return (
            f"{self._controller} starts each trajectory anew when it arrives, and steps when one "
            f"is early or late: set its parameter {_PARAMETER} to false"
        )

    def destroy(self) -> None:
        """Ask no more."""
        self._parameters.destroy()
