# SPDX-License-Identifier: MIT
"""The loop that commands the arm, in a thread of its own.

It samples the newest chunk by time, stays within limits and sends what comes out. Whatever happens
(an emergency stop, a fault, the end of the node) ends in a stop within the limits, never in
silence in the middle of a motion.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory
from vla_msgs.msg import CommandStatus

from vla_core.inference.command_stream import CommandMode, CommandStream, CommandTick
from vla_ros.command_inputs import CommandInputs
from vla_ros.conversions import command_qos, status_qos, time_message
from vla_ros.diagnostics import Measurements
from vla_ros.interlocks import Interlocks
from vla_ros.log_budget import LogBudget
from vla_ros.node_clock import NodeClock
from vla_ros.outputs import Command, CommandOutput
from vla_ros.outputs.joint_trajectory import plan_message
from vla_ros.parameters import CommandParameters
from vla_ros.realtime import raise_priority
from vla_ros.state_validity import StateValidity
from vla_ros.tick_rate import TickRate

_END_PATIENCE_S = 20.0
_MOVING = (CommandMode.EXECUTING, CommandMode.STOPPING)

MakeStream = Callable[[bool], CommandStream]
"""Makes a stream at rest; True for one that is only previewed."""


class CommandLoop:
    """Ticks at the contract's rate from `start` to `stop`.

    Args:
        node: Node that publishes.
        outputs: Where commands go while armed.
        inputs: What is heard.
        interlocks: Whether the arm may move.
        make_stream: Makes the streams.
        parameters: Those of the node; may be replaced at any time.
        validity: Judges the way ahead; None: nobody does.

    Attributes:
        parameters: Those of the node.
        last_tick: What the last tick decided.
        lateness: By how much ticks began too late, s.
        duration: How long they took, s.
        num_missed: How many were skipped, because the loop was late.
        limited: In how many ticks each joint was kept from its target.
        has_failed: Whether the loop has died of an error.
    """

    def __init__(
        self,
        node: Node,
        outputs: Sequence[CommandOutput],
        inputs: CommandInputs,
        interlocks: Interlocks,
        make_stream: MakeStream,
        parameters: CommandParameters,
        validity: StateValidity | None = None,
    ) -> None:
        self._validity = validity
        self._node = node
        self._outputs = tuple(outputs)
        self._inputs = inputs
        self._interlocks = interlocks
        self._make_stream = make_stream
        self.parameters = parameters
        self._status = node.create_publisher(CommandStatus, "~/status", status_qos())
        self._preview = node.create_publisher(JointTrajectory, "~/preview", command_qos())
        self._is_preview = not interlocks.is_armed
        self._stream = make_stream(self._is_preview)
        self.period_s = self._stream.contract.command.dt_s
        self._columns = np.arange(len(self._stream.joints))
        self._thread: threading.Thread | None = None
        self._is_ending = False
        self._is_sending = False
        self._seen = self._logged = (CommandMode.WAITING, "")
        self._num_unlogged = 0
        self._log_budget = LogBudget()
        self.last_tick: CommandTick | None = None
        self.lateness = Measurements()
        self.duration = Measurements()
        self.num_missed = 0
        self.limited: Counter[str] = Counter()
        self.has_failed = False

    def start(self) -> None:
        """Begin to tick."""
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="command", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Bring the arm to rest and end; return when nothing is commanded any more."""
        self._is_ending = True
        if self._thread is not None:
            self._thread.join(_END_PATIENCE_S)
            self._thread = None

    def destroy(self) -> None:
        """Give the publishers back, after `stop`."""
        self._node.destroy_publisher(self._status)
        self._node.destroy_publisher(self._preview)

    def _run(self) -> None:
        """Be the loop's thread; an error that nobody foresaw must not leave the arm in motion."""
        try:
            self._tick_until_over()
        except Exception:
            self._node.get_logger().fatal(
                f"the command loop has failed:\n{traceback.format_exc()}"
            )
            self.has_failed = True
        finally:
            self._end_motion()

    def _tick_until_over(self) -> None:
        raise_priority(self._node, self.parameters.realtime_priority)
        rate = TickRate(NodeClock(self._node), self.period_s)
        while not (self._is_ending and self._stream.mode not in _MOVING):
            if rate.wait():
                self.tick(rate)
            elif self._is_ending:
                return  # simulated time stands still, and the arm with it

    def tick(self, rate: TickRate) -> None:
        """Read what is new, decide, send.

        Args:
            rate: Says when this tick was due, and how many periods it is after the last one.
        """
        start_ns = time.monotonic_ns()
        now_ns = rate.now_ns
        self._choose_stream()
        if rate.has_jumped_back:
            self._inputs.forget_stamps()
            self._stream.set_back_clock()
        self._inputs.poll(self._stream, now_ns, start_ns)
        leader = self._inputs.leader(start_ns, self.parameters.teleop_timeout_s)
        hold_reason = ""
        if self._validity is not None and leader is None:
            hold_reason = self._validity.check(self._stream, now_ns, start_ns)
        emergency = self._interlocks.find_reason(start_ns)
        tick = self._stream.tick(
            now_ns,
            rate.num_elapsed,
            stop_reason=emergency or self._find_stop_reason(start_ns),
            is_emergency=bool(emergency),
            hold_reason=hold_reason,
            leader=leader,
        )
        self._send(tick, now_ns)
        self._publish_status(tick, now_ns, rate.lateness_s, leader is not None)
        self._log(tick)
        self.last_tick = tick
        self.limited.update(tick.limited_joints)
        self.num_missed += rate.num_elapsed - 1
        self.lateness.add(rate.lateness_s)
        self.duration.add((time.monotonic_ns() - start_ns) * 1e-9)

    def _choose_stream(self) -> None:
        """Change between preview and the robot, once the arm is at rest."""
        is_preview = not self._interlocks.is_armed
        if is_preview == self._is_preview or (is_preview and self._stream.mode in _MOVING):
            return
        self._is_preview = is_preview
        self._stream = self._make_stream(is_preview)

    def apply(self, parameters: CommandParameters) -> None:
        """Take parameters that were changed while the loop runs."""
        self.parameters = parameters
        self._stream.set_blend(parameters.blend_s)
        if not self._is_preview:
            self._stream.max_tracking_error = parameters.max_tracking_error

    def _find_stop_reason(self, monotonic_ns: int) -> str:
        if self._is_ending:
            return "the node is being deactivated"
        reason = self._inputs.find_reason(monotonic_ns)
        if reason or self._is_preview:
            return reason
        if not self._interlocks.is_armed:
            return "disarmed"
        if not self._inputs.wants_motion(monotonic_ns):
            return ""
        for output in self._outputs:
            output.wake()
        return next((why for output in self._outputs if (why := output.blocker())), "")

    def _send(self, tick: CommandTick, now_ns: int) -> None:
        measured = self._stream.measured
        if tick.plan is None or measured.positions is None:
            self._end_motion()
            return
        assert tick.position is not None
        assert tick.velocity is not None
        command = Command(
            now_ns=now_ns,
            position=tick.position,
            velocity=tick.velocity,
            positions=tick.plan[0],
            velocities=tick.plan[1],
            measured=measured.positions,
            measured_ns=measured.stamp_ns,
            is_stopping=tick.mode is CommandMode.STOPPING,
        )
        if self._is_preview:
            self._preview.publish(
                plan_message(self._stream.joints, command, self._columns, self.period_s)
            )
            return
        self._is_sending = True
        for output in self._outputs:
            output.send(command)

    def _end_motion(self) -> None:
        if not self._is_sending:
            return
        self._is_sending = False
        for output in self._outputs:
            output.stop()

    def _publish_status(
        self, tick: CommandTick, now_ns: int, lateness_s: float, is_led: bool
    ) -> None:
        status = CommandStatus(
            mode=int(tick.mode),
            reason=tick.reason,
            armed=not self._is_preview,
            emergency_stop=bool(self._interlocks.emergency),
            source=_source(tick, is_led),
            chunk_sequence=tick.chunk_sequence,
            policy_epoch=self._inputs.policy_epoch,
            policy_instruction=self._inputs.policy_instruction,
            chunk_age=tick.chunk_age_s,
            joint_state_age=tick.state_age_s,
            tick_lateness=lateness_s,
            limited=bool(tick.limited_joints),
            limited_joints=list(tick.limited_joints),
            joint_cuts=list(tick.joint_cuts),
            tool_cut=tick.tool_cut_m,
            pace=tick.pace,
            switch_jump=tick.switch_jump,
            joint_names=list(self._stream.joints),
        )
        status.header.stamp = time_message(now_ns)
        if tick.position is not None and tick.velocity is not None:
            status.command_positions = tick.position.tolist()
            status.command_velocities = tick.velocity.tolist()
        self._status.publish(status)

    def _log(self, tick: CommandTick) -> None:
        """Write one line per change of mode and per new refusal, as far as the budget goes."""
        state = (tick.mode, tick.reason if tick.mode is CommandMode.EXECUTING else "")
        if state != self._seen:
            self._seen = state
            self._num_unlogged += 1
        if state == self._logged or not self._log_budget.take():
            return
        because = f": {tick.reason}" if tick.reason else ""
        preview = " (preview)" if self._is_preview else ""
        others = self._num_unlogged - 1
        more = f" ({others} changes before this one are not shown)" if others > 0 else ""
        self._node.get_logger().info(f"{tick.mode.name.lower()}{preview}{because}{more}")
        self._logged, self._num_unlogged = state, 0


def _source(tick: CommandTick, is_led: bool) -> int:
    if tick.mode is not CommandMode.EXECUTING:
        return int(CommandStatus.NOBODY)
    return int(CommandStatus.TELEOPERATION if is_led else CommandStatus.POLICY)
