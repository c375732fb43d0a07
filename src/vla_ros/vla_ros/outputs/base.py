# SPDX-License-Identifier: MIT
"""What every output of the command loop has in common.

The loop's thread calls ``send``, ``stop`` and ``wake``; everything that takes time (discovery,
service calls, results of actions) happens in ``poll`` and in callbacks, in the executor's thread.
"""

from __future__ import annotations

import abc
import importlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from vla_core.errors import ConfigError

_PROBLEM_LASTS_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Command:
    """What one tick tells all outputs, for all action joints of the contract.

    Attributes:
        now_ns: Time of the tick.
        position: Commanded positions at that time, rad or m, float64 [A].
        velocity: Their velocities, [A].
        positions: Positions one tick later, two ticks later, ... with a stop at the end, [M, A].
        velocities: Their velocities, [M, A]; the last are 0.
        measured: Newest measured positions, [A].
        measured_ns: When they were measured.
        is_stopping: Whether the arm is brought to rest.
    """

    now_ns: int
    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    measured: NDArray[np.float64]
    measured_ns: int
    is_stopping: bool


class CommandOutput(abc.ABC):
    """Sends the commands of some joints to one controller, servo node or gripper.

    Args:
        node: Node that owns publishers and clients.
        target: Topic, action or node that takes the commands.
        joints: Joints that go there, in the contract's order.
        every_joint: All joints of a command, in its order.

    Attributes:
        target: Topic, action or node that takes the commands.
        joints: Joints that go there.
        columns: Their columns in a command.
        lookahead_s: How far a plan must follow the chunk before its stop tail.
        commit_s: How much of a plan the next ones must keep.
        follows_plans: Whether the other side follows a plan to its end when no other comes.
    """

    lookahead_s = 0.0
    commit_s = 0.0
    follows_plans = False

    def __init__(
        self, node: Node, target: str, joints: Sequence[str], every_joint: Sequence[str]
    ) -> None:
        self.node = node
        self.target = target
        self.joints = tuple(joints)
        self.columns = np.array([list(every_joint).index(joint) for joint in joints])
        self._problems: dict[str, float] = {}

    @abc.abstractmethod
    def send(self, command: Command) -> None:
        """Command the joints; called in every tick from the first motion until rest."""

    @abc.abstractmethod
    def destroy(self) -> None:
        """Give the topics and clients back; nothing may be called afterwards."""

    def wake(self) -> None:
        """Get ready: a motion is wanted. ``blocker`` says when it may begin."""
        return

    def stop(self) -> None:
        """End a motion: the arm has come to rest and nothing more is sent."""
        return

    def poll(self) -> None:
        """Look after the other side, several times per second, in the executor's thread."""
        return

    def blocker(self) -> str:
        """Return why nothing may be sent yet; empty when it may."""
        return ""

    def problems(self) -> tuple[str, ...]:
        """Return what went wrong in the last seconds, each in one sentence."""
        oldest = time.monotonic() - _PROBLEM_LASTS_S
        return tuple(text for text, seen in list(self._problems.items()) if seen >= oldest)

    def report(self, problem: str) -> None:
        """Note a problem; it is logged when it is new."""
        if problem not in self.problems():
            self.node.get_logger().warning(problem)
        # A report that is no news any more must not pile up.
        self._problems = {text: self._problems[text] for text in self.problems()}
        self._problems[problem] = time.monotonic()


def import_interface(module: str, output: str) -> Any:
    """Return a module of a ROS interface package that only some outputs need.

    Args:
        module: Such as ``control_msgs.action``.
        output: The contract's name of the output that needs it.

    Raises:
        ConfigError: The package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        distro = os.environ.get("ROS_DISTRO", "<distro>")
        raise ConfigError(
            f"output {output!r} needs the ROS package {package}, which is not installed; run "
            f"'apt install ros-{distro}-{package.replace('_', '-')}' or choose another output."
        ) from error
