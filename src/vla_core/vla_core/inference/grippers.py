# SPDX-License-Identifier: MIT
"""Decide for grippers that only open and close, without chattering.

It is decided where targets are sampled: a mean of chunks that disagree would be half open.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_core.processing.contract import RobotContract


class BinaryGrippers:
    """The grippers of a contract whose mode is ``binary``.

    Args:
        contract: The robot.
    """

    def __init__(self, contract: RobotContract) -> None:
        binary = {n: part for n, part in contract.grippers.items() if part.mode == "binary"}
        self._columns = np.array([contract.action.joints.index(name) for name in binary], int)
        self._open = np.array([part.open for part in binary.values()])
        self._closed = np.array([part.closed for part in binary.values()])
        self._threshold = np.array([part.threshold for part in binary.values()])
        self._hysteresis = np.array([part.hysteresis for part in binary.values()])
        self._is_open = np.zeros(len(binary), dtype=bool)

    def __bool__(self) -> bool:
        """Return whether there is such a gripper."""
        return len(self._columns) > 0

    def reset(self, positions: NDArray[np.float64]) -> None:
        """Begin with what the grippers are nearer to, at positions of all joints, [A]."""
        self._is_open = self._opening(positions) > self._threshold

    def decide(self, targets: NDArray[np.float64], velocities: NDArray[np.float64]) -> None:
        """Replace what is wanted of the grippers by open or closed, at rest, in place.

        Args:
            targets: Targets of the coming ticks, rad or m, [M, A]; the first decides for good, the
                later ones are asked again.
            velocities: Their velocities, [M, A].
        """
        is_open = self._is_open
        for row, target in enumerate(targets):
            # Open stays open down to the lower edge, closed stays closed up to the upper one.
            edge = self._threshold + np.where(is_open, -self._hysteresis, self._hysteresis)
            is_open = self._opening(target) > edge
            if row == 0:
                self._is_open = is_open
            target[self._columns] = np.where(is_open, self._open, self._closed)
        velocities[:, self._columns] = 0.0

    def _opening(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        return (positions[self._columns] - self._closed) / (self._open - self._closed)
