# SPDX-License-Identifier: MIT
"""Ask MoveIt whether what the chunk wants next is free of collisions, before the arm is there.

The loop hands over way-points and goes on; the executor's thread asks ``GetStateValidity`` about
them and hears the answers. So no tick ever waits for MoveIt, and the arm stops for an answer that
is bad, or missing, while it still has some way to go.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from vla_core.inference.command_stream import CommandStream
from vla_ros.conversions import joint_state_message
from vla_ros.diagnostics import DiagnosticLevel, DiagnosticReport
from vla_ros.outputs.base import import_interface

_STEP_S = 0.1
_PATIENCE_NS = 300_000_000


class StateValidity:
    """Has the way-points of the newest chunk judged, again and again.

    Args:
        node: Node that owns the client.
        service: Name of the service, usually ``check_state_validity``.
        joints: Action joints, in the order of all way-points.
        group: Planning group; empty: the whole robot.
        horizon_s: How far ahead is looked.
        is_needed: Whether the arm must not move without an answer.

    Raises:
        ConfigError: ``moveit_msgs`` is not installed.
    """

    def __init__(
        self,
        node: Node,
        service: str,
        joints: Sequence[str],
        *,
        group: str = "",
        horizon_s: float = 0.5,
        is_needed: bool = True,
    ) -> None:
        self._node = node
        self._joints = tuple(joints)
        self._group = group
        self._is_needed = is_needed
        num = max(1, math.ceil(horizon_s / _STEP_S - 1e-9))
        self._offsets_ns = [round(1e9 * horizon_s * (i + 1) / num) for i in range(num)]
        self._type = import_interface("moveit_msgs.srv", "state_validity").GetStateValidity
        self._client = node.create_client(self._type, service)
        self._guard = node.create_guard_condition(self._send)
        self._points: NDArray[np.float64] | None = None
        self._asked_ns: int | None = None
        self._futures: list[Any] = []
        self._collision = ""
        self._answered_ns: int | None = None
        self._has_chunk = False

    def check(self, stream: CommandStream, now_ns: int, monotonic_ns: int) -> str:
        """Have the way ahead judged if that is due; called by the loop in every tick.

        Args:
            stream: What is going to be followed.
            now_ns: Time of the tick.
            monotonic_ns: The same on the monotonic clock.

        Returns:
            Why the arm must not follow the chunk; empty if it may, or if there is none.
        """
        self._has_chunk = stream.has_chunk
        if not self._has_chunk:
            return ""
        if self._asked_ns is None or monotonic_ns - self._asked_ns > _PATIENCE_NS:
            self._asked_ns = monotonic_ns
            self._points = stream.way_points([now_ns + offset for offset in self._offsets_ns])
            self._guard.trigger()
        return self._collision or (self._find_silence(monotonic_ns) if self._is_needed else "")

    def report(self) -> DiagnosticReport:
        """Return what /diagnostics tells about it."""
        if self._collision:
            return DiagnosticReport(DiagnosticLevel.ERROR, self._collision)
        if self._has_chunk and (silence := self._find_silence(time.monotonic_ns())):
            return DiagnosticReport(DiagnosticLevel.WARN, silence)
        return DiagnosticReport(DiagnosticLevel.OK, "no collision ahead")

    def _find_silence(self, now_ns: int) -> str:
        if self._answered_ns is not None and now_ns - self._answered_ns <= _PATIENCE_NS:
            return ""
        if not self._client.service_is_ready():
            return f"nobody serves {self._client.srv_name}, which is to judge the way ahead"
        return f"{self._client.srv_name} has not judged the way ahead yet"

    def _send(self) -> None:
        self._drop()
        points = self._points
        if points is None or not self._client.service_is_ready():
            return
        self._futures = [self._client.call_async(self._request(point)) for point in points]
        for future in self._futures:
            future.add_done_callback(self._on_answer)

    def _request(self, point: NDArray[np.float64]) -> Any:
        request = self._type.Request(group_name=self._group)
        # What is not named stays as it is: other joints, and what the gripper holds.
        request.robot_state.is_diff = True
        request.robot_state.joint_state = joint_state_message(self._joints, point, (), stamp_ns=0)
        return request

    def _on_answer(self, future: Any) -> None:
        if future not in self._futures or not all(each.done() for each in self._futures):
            return
        answers = [each.result() for each in self._futures]
        bad = [i for i, answer in enumerate(answers) if answer is None or not answer.valid]
        self._collision = self._describe(bad[0], answers[bad[0]]) if bad else ""
        self._answered_ns, self._asked_ns, self._futures = time.monotonic_ns(), None, []

    def _describe(self, index: int, answer: Any) -> str:
        ahead_s = self._offsets_ns[index] * 1e-9
        bodies = sorted(
            {
                " with ".join(sorted((contact.contact_body_1, contact.contact_body_2)))
                for contact in getattr(answer, "contacts", ())
            }
        )
        what = f"collides: {', '.join(bodies)}" if bodies else "is not a valid state"
        return f"{self._client.srv_name}: the way {ahead_s:.1f} s ahead {what}"

    def _drop(self) -> None:
        for future in self._futures:
            self._client.remove_pending_request(future)
        self._futures = []

    def destroy(self) -> None:
        """Destroy the client."""
        self._drop()
        self._node.destroy_guard_condition(self._guard)
        self._node.destroy_client(self._client)
