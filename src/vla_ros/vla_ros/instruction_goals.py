# SPDX-License-Identifier: MIT
"""Serve the ``ExecuteInstruction`` action from a node whose executor has one thread.

Nothing waits for the end of a goal: a timer looks at the goal ten times per second and answers it
when it has ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.action.server import (
    ActionServer,
    CancelResponse,
    GoalResponse,
    ServerGoalHandle,
)
from rclpy.node import Node
from std_msgs.msg import Bool, Float32
from vla_msgs.action import ExecuteInstruction

from vla_ros.node_clock import steady_clock

_STEP_PERIOD_S = 0.1
_STEPS_PER_FEEDBACK = 2
_Result = ExecuteInstruction.Result


class _DeferredActionServer(ActionServer):
    """An action server that answers a goal when it is told to, not when a callback returns."""

    def notify_execute(
        self, goal_handle: ServerGoalHandle, execute_callback: Callable[[Any], Any] | None
    ) -> None:
        """Leave an accepted goal alone: it is executing, and `finish` will answer it."""

    def finish(self, goal_handle: ServerGoalHandle, result: ExecuteInstruction.Result) -> None:
        """Answer a goal that is in its last state."""
        super().notify_execute(goal_handle, lambda _: result)


@dataclass
class _Goal:
    handle: ServerGoalHandle
    start_ns: int
    progress: float = math.nan
    num_steps: int = 0


class InstructionGoals:
    """One goal at a time; a newer one takes over.

    ``task_success`` (std_msgs/Bool) ends the goal as succeeded when it says true, and
    ``task_progress`` (std_msgs/Float32, 0 to 1) is passed on as feedback: a detector of success
    publishes them.

    Args:
        node: Node that serves ``~/execute_instruction``.
        why_not: Says why no goal can be followed now; empty when one can.
        follow: Begins to follow an instruction; empty stops the arm.
        describe: Fills in the feedback what the policy is doing.
    """

    def __init__(
        self,
        node: Node,
        *,
        why_not: Callable[[], str],
        follow: Callable[[str], object],
        describe: Callable[[ExecuteInstruction.Feedback], None],
    ) -> None:
        self._node = node
        self._why_not = why_not
        self._follow = follow
        self._describe = describe
        self._goal: _Goal | None = None
        self._server = _DeferredActionServer(
            node,
            ExecuteInstruction,
            "~/execute_instruction",
            execute_callback=_never_called,
            goal_callback=self._judge,
            handle_accepted_callback=self._begin,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
        node.create_subscription(Bool, "task_success", self._on_success, 10)
        node.create_subscription(Float32, "task_progress", self._on_progress, 10)
        node.create_timer(_STEP_PERIOD_S, self._step, clock=steady_clock())

    @property
    def is_active(self) -> bool:
        """Whether a goal is being followed."""
        return self._goal is not None

    def preempt(self, by: str) -> None:
        """End the goal, if there is one, because something else tells the policy what to do."""
        self._end(_Result.PREEMPTED, f"preempted by {by}")

    def fail(self, reason: str) -> None:
        """End the goal, if there is one, because the policy cannot go on."""
        if self._goal is not None:
            self._stop(_Result.FAILED, reason)

    def destroy(self) -> None:
        """Take the action away."""
        self._server.destroy()

    def _judge(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        reason = self._why_not()
        if not request.instruction.strip():
            reason = "its instruction is empty"
        elif not (math.isfinite(request.timeout) and request.timeout >= 0.0):
            reason = f"its timeout must be a number of seconds from 0 on, got {request.timeout}"
        if not reason:
            return GoalResponse.ACCEPT
        # The protocol of actions has no words for a refusal.
        self._node.get_logger().warning(f"goal {request.instruction!r} is refused: {reason}")
        return GoalResponse.REJECT

    def _begin(self, handle: ServerGoalHandle) -> None:
        self.preempt("a newer goal")
        self._goal = _Goal(handle, self._now_ns())
        handle.execute()
        self._follow(handle.request.instruction)

    def _step(self) -> None:
        goal = self._goal
        if goal is None:
            return
        timeout_s = goal.handle.request.timeout
        if goal.handle.is_cancel_requested:
            self._stop(_Result.CANCELLED, "cancelled by the client")
        elif 0.0 < timeout_s <= self._elapsed_s(goal):
            self._stop(_Result.TIMED_OUT, f"not done within {timeout_s:g} s")
        elif reason := self._why_not():
            self._stop(_Result.FAILED, reason)
        else:
            goal.num_steps += 1
            if goal.num_steps % _STEPS_PER_FEEDBACK == 1:
                feedback = ExecuteInstruction.Feedback(
                    progress=goal.progress, elapsed=self._elapsed_s(goal)
                )
                self._describe(feedback)
                goal.handle.publish_feedback(feedback)

    def _on_success(self, message: Bool) -> None:
        if message.data and self._goal is not None:
            self._stop(_Result.SUCCEEDED, "done")

    def _on_progress(self, message: Float32) -> None:
        if self._goal is not None:
            self._goal.progress = message.data

    def _stop(self, outcome: int, message: str) -> None:
        """End the goal and have the arm stopped."""
        self._follow("")
        self._end(outcome, message)

    def _end(self, outcome: int, message: str) -> None:
        goal, self._goal = self._goal, None
        if goal is None:
            return
        if outcome == _Result.SUCCEEDED:
            goal.handle.succeed()
        elif goal.handle.is_cancel_requested:
            goal.handle.canceled()
        else:
            goal.handle.abort()
        self._node.get_logger().info(f"goal {goal.handle.request.instruction!r}: {message}")
        result = _Result(
            success=outcome == _Result.SUCCEEDED,
            message=message,
            outcome=outcome,
            elapsed=self._elapsed_s(goal),
        )
        self._server.finish(goal.handle, result)

    def _elapsed_s(self, goal: _Goal) -> float:
        return (self._now_ns() - goal.start_ns) * 1e-9

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


def _never_called(handle: ServerGoalHandle) -> ExecuteInstruction.Result:
    raise AssertionError("a deferred action server calls no callback")
