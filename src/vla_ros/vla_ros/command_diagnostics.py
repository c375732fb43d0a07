# SPDX-License-Identifier: MIT
"""What command_node tells /diagnostics: its loop, its data, its outputs, its interlocks."""

from __future__ import annotations

from collections.abc import Sequence

from vla_core.inference.command_stream import CommandMode
from vla_ros.command_inputs import CommandInputs
from vla_ros.command_loop import CommandLoop
from vla_ros.diagnostics import DiagnosticLevel, DiagnosticReport, Diagnostics
from vla_ros.interlocks import Interlocks
from vla_ros.outputs import CommandOutput

_OK, _WARN, _ERROR = DiagnosticLevel.OK, DiagnosticLevel.WARN, DiagnosticLevel.ERROR

# Of the ticks, that may be missed without a warning.
_SHARE_MISSED = 0.01


class CommandDiagnostics:
    """The reports of one command node.

    Args:
        diagnostics: Publishes them.
        loop: What is measured.
        inputs: What is heard.
        outputs: What is sent.
        interlocks: Why it is not.
    """

    def __init__(
        self,
        diagnostics: Diagnostics,
        loop: CommandLoop,
        inputs: CommandInputs,
        outputs: Sequence[CommandOutput],
        interlocks: Interlocks,
    ) -> None:
        self._loop = loop
        self._inputs = inputs
        self._outputs = tuple(outputs)
        self._interlocks = interlocks
        self._num_missed = 0
        diagnostics.add("loop", self._report_loop)
        diagnostics.add("command", self._report_command)
        diagnostics.add("joint states", self._report_joint_states)
        diagnostics.add("limits", self._report_limits)
        diagnostics.add("outputs", self._report_outputs)
        diagnostics.add("interlocks", self._report_interlocks)

    def _report_loop(self) -> DiagnosticReport:
        lateness, duration = self._loop.lateness.summarize(), self._loop.duration.summarize()
        num_missed = self._loop.num_missed - self._num_missed
        self._num_missed += num_missed
        values = {
            "rate [Hz]": lateness.rate_hz,
            "lateness median [ms]": lateness.median * 1e3,
            "lateness p99 [ms]": lateness.p99 * 1e3,
            "lateness maximum [ms]": lateness.maximum * 1e3,
            "duration median [ms]": duration.median * 1e3,
            "duration p99 [ms]": duration.p99 * 1e3,
            "missed ticks": num_missed,
        }
        if self._loop.has_failed:
            return DiagnosticReport(_ERROR, "the loop has died; its log tells why", values)
        if lateness.count == 0:
            return DiagnosticReport(_WARN, "no ticks: the node is not active", values)
        if num_missed > _SHARE_MISSED * lateness.count:
            text = f"missed ticks: {num_missed} ({num_missed * self._loop.period_s:.2f} s)"
            return DiagnosticReport(_WARN, text, values)
        return DiagnosticReport(_OK, "on time", values)

    def _report_command(self) -> DiagnosticReport:
        tick = self._loop.last_tick
        if tick is None:
            return DiagnosticReport(_WARN, "nothing decided yet")
        num_policies = self._inputs.num_chunk_publishers
        values = {
            "mode": tick.mode.name.lower(),
            "reason": tick.reason,
            "chunk": tick.chunk_sequence,
            "chunk age [s]": tick.chunk_age_s,
            "joint state age [s]": tick.state_age_s,
            "publishers of action_chunk": num_policies,
        }
        if self._inputs.teleop_problem:
            return DiagnosticReport(_WARN, self._inputs.teleop_problem, values)
        if tick.mode is not CommandMode.EXECUTING:
            return DiagnosticReport(_WARN, f"{tick.mode.name.lower()}: {tick.reason}", values)
        if num_policies > 1:
            text = f"{num_policies} nodes publish action_chunk"
            return DiagnosticReport(_WARN, text, values)
        return DiagnosticReport(_WARN if tick.reason else _OK, tick.reason or "executing", values)

    def _report_joint_states(self) -> DiagnosticReport:
        rivals = self._inputs.describe_rivals()
        return DiagnosticReport(_WARN if rivals else _OK, rivals or "no problem")

    def _report_limits(self) -> DiagnosticReport:
        # The loop goes on counting meanwhile; what it counts in this moment may be lost.
        limited, self._loop.limited = self._loop.limited, type(self._loop.limited)()
        if not limited:
            return DiagnosticReport(_OK, "nothing was cut")
        values = {f"{joint} [ticks]": number for joint, number in limited.most_common()}
        return DiagnosticReport(_OK, f"cut: {', '.join(sorted(limited))}", values)

    def _report_outputs(self) -> DiagnosticReport:
        values = {output.target: type(output).__name__ for output in self._outputs}
        blockers = [why for output in self._outputs if (why := output.blocker())]
        problems = [text for output in self._outputs for text in output.problems()]
        if blockers or problems:
            level = _ERROR if problems else _WARN
            return DiagnosticReport(level, "; ".join((*problems, *blockers)), values)
        return DiagnosticReport(_OK, "no problem", values)

    def _report_interlocks(self) -> DiagnosticReport:
        emergency, is_armed = self._interlocks.emergency, self._interlocks.is_armed
        values = {"armed": is_armed, "emergency stop": bool(emergency)}
        if emergency:
            return DiagnosticReport(_ERROR, f"emergency stop: {emergency}", values)
        if not is_armed:
            return DiagnosticReport(_WARN, "not armed: commands are previewed only", values)
        return DiagnosticReport(_OK, "armed", values)
