# SPDX-License-Identifier: MIT
"""Where the arm is wanted in the coming ticks, before any limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_core.inference.action_chunks import ChunkSampler
from vla_core.inference.grippers import BinaryGrippers
from vla_core.inference.motor import MotorControl
from vla_core.processing.contract import RobotContract

_Targets = tuple[NDArray[np.float64], NDArray[np.float64]]


class ComingTargets:
    """Targets of a few ticks and their velocities, [M, A] each, with grippers decided.

    Args:
        contract: The robot.
        sampler: Holds the chunks.
        motor: Corrects what they want; None: nobody does.
        lead_s: How much later than the next tick the first target is due.
        num_ticks: How many ticks.
    """

    def __init__(
        self,
        contract: RobotContract,
        sampler: ChunkSampler,
        motor: MotorControl | None,
        *,
        lead_s: float,
        num_ticks: int,
    ) -> None:
        self._sampler = sampler
        self._motor = motor
        self._grippers = BinaryGrippers(contract)
        dt_ns = round(contract.command.dt_s * 1e9)
        first_ns = round(lead_s * 1e9) + dt_ns
        self._offsets_ns = [first_ns + tick * dt_ns for tick in range(num_ticks)]

    def start(self, positions: NDArray[np.float64]) -> None:
        """Begin with what the grippers are nearer to, at positions of all joints, [A]."""
        self._grippers.reset(positions)

    def of_chunk(self, measured: NDArray[np.float64], now_ns: int) -> _Targets:
        """Return where the chunk leads.

        Args:
            measured: Measured positions, [A].
            now_ns: Time of this tick.

        Raises:
            ChunkError: There is no chunk.
        """
        samples = np.array([self._sampler.sample(now_ns + ns) for ns in self._offsets_ns])
        targets, velocities = samples[:, 0], samples[:, 1]
        if self._motor is not None:
            assert self._sampler.chunk is not None
            targets += self._motor.correction(self._sampler.chunk, measured, now_ns)
        return self._decided(targets, velocities)

    def of_leader(self, positions: NDArray[np.float64]) -> _Targets:
        """Return where somebody with priority over the policy is, [A]."""
        targets = np.tile(positions, (len(self._offsets_ns), 1))
        return self._decided(targets, np.zeros_like(targets))

    def _decided(self, targets: NDArray[np.float64], velocities: NDArray[np.float64]) -> _Targets:
        if self._grippers:
            self._grippers.decide(targets, velocities)
        return targets, velocities
