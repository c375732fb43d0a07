# SPDX-License-Identifier: MIT
"""Ask another node for its parameters."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node

_FIELDS = {
    ParameterType.PARAMETER_BOOL: "bool_value",
    ParameterType.PARAMETER_DOUBLE: "double_value",
    ParameterType.PARAMETER_STRING: "string_value",
    ParameterType.PARAMETER_STRING_ARRAY: "string_array_value",
}


class RemoteParameters:
    """Parameters of one node, asked for each time that it appears.

    Args:
        node: Node that asks.
        target: Name of the node that is asked.
        names: Parameters; those of another type than flag, number, text or list of texts are left
            out.
        patience_s: How long the other node may take to appear before it counts as absent.

    Attributes:
        values: What the node has answered; a parameter that it does not have is missing.
        has_answered: Whether it has.
    """

    def __init__(
        self, node: Node, target: str, names: Sequence[str], *, patience_s: float = 2.0
    ) -> None:
        self._node = node
        self._names = list(names)
        self._client = node.create_client(GetParameters, f"{target}/get_parameters")
        self._is_asked = False
        self._give_up_at = time.monotonic() + patience_s
        self.values: Mapping[str, Any] = {}
        self.has_answered = False

    @property
    def is_absent(self) -> bool:
        """Whether the node cannot be asked: it has no such service."""
        return not self._is_asked and time.monotonic() > self._give_up_at

    def poll(self) -> None:
        """Ask if the node has appeared since; in the executor's thread."""
        if not self._client.service_is_ready():
            self._is_asked = False
        elif not self._is_asked:
            self._is_asked = True
            future = self._client.call_async(GetParameters.Request(names=self._names))
            future.add_done_callback(lambda done: self._on_answer(done.result()))

    def ask_again(self) -> None:
        """Have the next poll ask anew; until it is answered the values are the old ones."""
        self._is_asked = False

    def _on_answer(self, response: GetParameters.Response) -> None:
        # A node answers with nothing at all when it lacks one of the parameters.
        self.values = {
            name: getattr(value, _FIELDS[value.type])
            for name, value in zip(self._names, response.values, strict=False)
            if value.type in _FIELDS
        }
        self.has_answered = True

    def destroy(self) -> None:
        """Destroy the client."""
        self._node.destroy_client(self._client)
