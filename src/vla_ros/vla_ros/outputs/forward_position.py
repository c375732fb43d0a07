# SPDX-License-Identifier: MIT
"""Command a forward controller for positions, as of forward_command_controller."""

from __future__ import annotations

from vla_ros.outputs.base import Command
from vla_ros.outputs.forward import ForwardOutput


class ForwardPositionOutput(ForwardOutput):
    """Publishes the position of the next tick in every tick."""

    def send(self, command: Command) -> None:
        """Publish the positions."""
        self.publish(command.positions[0])
