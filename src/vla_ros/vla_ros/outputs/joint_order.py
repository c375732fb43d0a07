# SPDX-License-Identifier: MIT
"""Find out in which order a forward controller wants its values.

Its message has no names: the order is that of its parameter ``joints``, which need not be the
contract's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from vla_ros.outputs.remote_parameters import RemoteParameters


class JointOrder:
    """The order of one controller, asked from its node where there is one to ask.

    Args:
        node: Node that asks.
        topic: Topic of the controller, ``<controller>/commands``.
        joints: Joints that it is sent, in the contract's order.
        columns: Their columns in a command.

    Attributes:
        columns: The same in the controller's order.
        blocker: Why the order is not known; empty when it is.
    """

    def __init__(
        self, node: Node, topic: str, joints: Sequence[str], columns: NDArray[np.intp]
    ) -> None:
        self._node = node
        self._controller = topic.rpartition("/")[0]
        self._joints = tuple(joints)
        self._columns_by_joint = dict(zip(joints, columns.tolist(), strict=True))
        self._parameters = RemoteParameters(node, self._controller, ["joints"])
        self._order: tuple[str, ...] | None = None
        self.columns = columns
        self.blocker = f"the order of joints of {self._controller} is not known yet"

    def poll(self) -> None:
        """Ask, and take over what was answered."""
        self._parameters.poll()
        if self._parameters.has_answered:
            self._take(tuple(self._parameters.values.get("joints", ())))
        elif self._parameters.is_absent and self._order is None:
            self._take(())

    def _take(self, order: tuple[str, ...]) -> None:
        if order == self._order:
            return
        self._order = order
        if not order:
            self._node.get_logger().info(
                f"{self._controller} does not tell its joints; it is sent the contract's order: "
                f"{', '.join(self._joints)}."
            )
            self.blocker = ""
        elif sorted(order) != sorted(self._joints):
            self.blocker = (
                f"{self._controller} commands {', '.join(order)}, but the contract sends it "
                f"{', '.join(self._joints)}"
            )
        else:
            self.columns = np.array([self._columns_by_joint[joint] for joint in order])
            self.blocker = ""

    def destroy(self) -> None:
        """Destroy the client."""
        self._parameters.destroy()
