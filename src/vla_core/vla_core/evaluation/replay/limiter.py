# SPDX-License-Identifier: MIT
"""What the command loop would have made of a policy's chunks: cuts, refusals and jumps.

The command stream of the robot runs between the control ticks at the rate of the contract. The
joints are where they were recorded: a replay does not move them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ChunkError
from vla_core.inference.command_stream import CommandStream
from vla_core.inference.command_tick import CommandMode
from vla_core.processing.contract import RobotContract
from vla_core.types import ActionChunk, Observation

_STOP_S = 1.0
"""Time within which an arm without a chunk has stopped."""


@dataclass(frozen=True, slots=True, eq=False)
class LimiterReport:
    """What happened between two control ticks.

    Attributes:
        num_ticks: Ticks of the command loop in which the policy was followed.
        num_cut: Those in which a limit changed the command.
        joint_cuts: The same for every joint, int64 [J].
        summed_cuts: How far each joint was kept from its target, added over the ticks, [J].
        largest_cuts: How far each joint was kept from its target at most, rad or m, [J].
        switch_jump: Largest distance between two chunks where one follows the other, rad or m;
            NaN without a switch.
        refusal: Why a chunk was not followed; empty if all were.
    """

    num_ticks: int
    num_cut: int
    joint_cuts: NDArray[np.int64]
    summed_cuts: NDArray[np.float64]
    largest_cuts: NDArray[np.float64]
    switch_jump: float
    refusal: str


class Limiter:
    """Follows the chunks of a replay with the command stream of the robot.

    Args:
        contract: The robot.
    """

    def __init__(self, contract: RobotContract) -> None:
        self._contract = contract
        names = contract.state_names
        self._columns = [names.index(joint) for joint in contract.action.joints]
        self._dt_ns = round(contract.command.dt_s * 1e9)
        self._longest_ns = round((contract.action.max_age_s + _STOP_S) * 1e9)
        self._sequence = 0
        self.restart()

    def restart(self) -> None:
        """Begin another stretch, with an arm at rest."""
        # What was recorded did not follow this policy, so that being far from it is no fault.
        self._stream = CommandStream(self._contract, max_tracking_error=math.inf)
        self._next_ns = 0
        self._positions: NDArray[np.float64] | None = None

    def follow(self, observation: Observation, chunk: ActionChunk, now_ns: int) -> LimiterReport:
        """Run until a control tick and take its chunk.

        Args:
            observation: What the chunk answers.
            chunk: The chunk.
            now_ns: Time of the control tick.

        Returns:
            What happened since the last control tick, and whether this chunk is refused.
        """
        if self._positions is not None and now_ns - self._next_ns > self._longest_ns:
            self.restart()
        report = self._run(now_ns)
        self._positions = observation.state[self._columns]
        if not self._next_ns:
            self._next_ns = now_ns
            # A chunk of changes needs to know where the arm is.
            self._stream.put_joint_state(self._positions, now_ns)
        self._sequence += 1
        try:
            self._stream.put_chunk(chunk, sequence=self._sequence, epoch=1, now_ns=now_ns)
        except ChunkError as error:
            return replace(report, refusal=str(error))
        return report

    def _run(self, until_ns: int) -> LimiterReport:
        num_followed = num_cut = 0
        joint_cuts = np.zeros(len(self._columns), np.int64)
        summed, largest = np.zeros(len(self._columns)), np.zeros(len(self._columns))
        jump = math.nan
        refusal = ""
        while self._positions is not None and self._next_ns < until_ns:
            self._stream.put_joint_state(self._positions, self._next_ns)
            tick = self._stream.tick(self._next_ns)
            self._next_ns += self._dt_ns
            if tick.mode is not CommandMode.EXECUTING:
                refusal = tick.reason
                continue
            num_followed += 1
            num_cut += bool(tick.limited_joints)
            for joint, joint_cut in zip(tick.limited_joints, tick.joint_cuts, strict=True):
                column = self._contract.action.joints.index(joint)
                joint_cuts[column] += 1
                summed[column] += joint_cut
                largest[column] = max(largest[column], joint_cut)
            if tick.switch_jump:
                jump = tick.switch_jump
        return LimiterReport(
            num_ticks=num_followed,
            num_cut=num_cut,
            joint_cuts=joint_cuts,
            summed_cuts=summed,
            largest_cuts=largest,
            switch_jump=jump,
            refusal=refusal,
        )
