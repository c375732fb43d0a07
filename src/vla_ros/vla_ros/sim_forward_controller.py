# SPDX-License-Identifier: MIT
"""The simulated robot's forward controller for positions, with the manners of the real one.

A message of the wrong length is an error, one that is not finite is dropped, and the last command
stays in force for ever. Its node's parameter ``joints`` tells the order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from vla_core.errors import MessageError
from vla_ros.conversions import sensor_subscription_qos
from vla_ros.polled_subscription import PolledSubscription


class SimForwardController:
    """Takes commands from ``<controller>/commands``.

    Args:
        node: Node that subscribes and answers.
        topic: Topic of the commands.
        joints: Joints in the order of the commands.
    """

    def __init__(self, node: Node, topic: str, joints: Sequence[str]) -> None:
        self._joints = tuple(joints)
        # The real reader has the system default, which is best effort, depth 1.
        self._commands = PolledSubscription(
            node, Float64MultiArray, topic, sensor_subscription_qos()
        )
        name = topic.rpartition("/")[0]
        self._node = node
        self._service = node.create_service(GetParameters, f"{name}/get_parameters", self._on_get)

    def take(self) -> NDArray[np.float64] | None:
        """Return the newest command, rad or m, float64 [A], or None when none has come.

        Raises:
            MessageError: The real controller would not take it.
        """
        message = self._commands.take()
        if message is None:
            return None
        positions = np.array(message.data, dtype=np.float64)
        if len(positions) != len(self._joints):
            raise MessageError(
                f"a command must have {len(self._joints)} values, one for each of "
                f"{', '.join(self._joints)}, got {len(positions)}."
            )
        if not np.isfinite(positions).all():
            raise MessageError(f"a command must be finite, got {positions.tolist()}.")
        return positions

    def destroy(self) -> None:
        """Unsubscribe and serve no more."""
        self._commands.destroy()
        self._node.destroy_service(self._service)

    def _on_get(
        self, request: GetParameters.Request, response: GetParameters.Response
    ) -> GetParameters.Response:
        joints = ParameterValue(
            type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=list(self._joints)
        )
        response.values = [joints if n == "joints" else ParameterValue() for n in request.names]
        return response
