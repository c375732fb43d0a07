# SPDX-License-Identifier: MIT
"""Stream goals to an action server: the newest counts, each replaces the one before.

A goal is handed over by the command loop and sent by the executor's thread, so that nothing of an
action costs the loop more than an assignment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action.client import ActionClient
from rclpy.action.graph import get_action_names_and_types
from rclpy.node import Node

_ENDS = {
    GoalStatus.STATUS_SUCCEEDED: "",
    GoalStatus.STATUS_CANCELED: "was cancelled by somebody else",
    GoalStatus.STATUS_ABORTED: "was aborted",
}
_ANSWER_S = 1.0


class ActionGoals:
    """The goals of one action client.

    Args:
        node: Node that owns the client.
        action_type: Class of the action.
        name: Name of the action.
        describe: Says in words what is wrong with a result, given how the goal has ended ('' for
            well); '' for nothing.
        report: Takes what went wrong.
    """

    def __init__(
        self,
        node: Node,
        action_type: Any,
        name: str,
        *,
        describe: Callable[[Any, str], str],
        report: Callable[[str], None],
    ) -> None:
        self._node = node
        self._name = name
        package = action_type.__module__.partition(".")[0]
        self._type = f"{package}/action/{action_type.__name__}"
        self._describe = describe
        self._report = report
        self._client = ActionClient(node, action_type, name)
        self._guard = node.create_guard_condition(self._send_newest)
        self._newest: Any = None
        self._sequence = 0
        self._unanswered_since_s: float | None = None
        self._num_servers = 0
        self._blocker = self._find_blocker()

    def send(self, goal: Any) -> None:
        """Have a goal sent, from any thread; one that still waits is dropped."""
        self._newest = goal
        self._guard.trigger()

    def poll(self) -> bool:
        """Look whether the server is there and answers; in the executor's thread.

        Returns:
            Whether one has come that may know no goal. One that was killed is still counted for a
            while; its successor is one more.
        """
        self._blocker = self._find_blocker()
        since_s = self._unanswered_since_s
        if since_s is not None and time.monotonic() - since_s > _ANSWER_S:
            self._report(f"{self._name} has not answered a goal for {_ANSWER_S:g} s")
        status = f"{self._node.resolve_topic_name(self._name)}/_action/status"
        before, self._num_servers = self._num_servers, self._node.count_publishers(status)
        return self._num_servers > before

    @property
    def blocker(self) -> str:
        """Why no goal can be sent; empty when it can."""
        return self._blocker

    def destroy(self) -> None:
        """Destroy the client; a goal that is being followed ends by itself."""
        self._node.destroy_guard_condition(self._guard)
        self._client.destroy()

    def _find_blocker(self) -> str:
        if self._client.server_is_ready():
            return ""
        expected = f"no server of {self._name} ({self._type}) is there"
        full_name = self._node.resolve_service_name(self._name)
        # The client itself is in the graph, too.
        others = [
            kind
            for name, kinds in get_action_names_and_types(self._node)
            for kind in kinds
            if name == full_name and kind != self._type
        ]
        return f"{expected}; what is there takes {', '.join(others)}" if others else expected

    def _send_newest(self) -> None:
        goal, self._newest = self._newest, None
        if goal is None:
            return
        self._sequence += 1
        sequence = self._sequence
        self._unanswered_since_s = time.monotonic()
        future = self._client.send_goal_async(goal)
        future.add_done_callback(lambda done: self._on_response(done.result(), sequence))

    def _on_response(self, handle: Any, sequence: int) -> None:
        if sequence == self._sequence:
            self._unanswered_since_s = None
        if not handle.accepted:
            self._report(f"{self._name} has rejected a goal; its own log tells why")
            return
        handle.get_result_async().add_done_callback(
            lambda done: self._on_result(done.result(), sequence)
        )

    def _on_result(self, response: Any, sequence: int) -> None:
        # A goal that was replaced is aborted or cancelled by the server, which is as it should be.
        if sequence != self._sequence:
            return
        end = _ENDS.get(response.status, f"has ended with status {response.status}")
        if problem := self._describe(response.result, end):
            self._report(f"{self._name}: {problem}")
