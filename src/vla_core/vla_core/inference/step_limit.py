# SPDX-License-Identifier: MIT
"""Keep targets near where the arm was measured to be: the contract's ``safety.max_step``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_core.processing.contract import RobotContract


class StepLimit:
    """The largest step of every joint.

    Args:
        contract: The robot.
    """

    def __init__(self, contract: RobotContract) -> None:
        self._joints = contract.action.joints
        max_step = contract.safety.max_step
        self._is_limited = max_step is not None
        # A gripper that holds something is always far from its target.
        is_gripper = [joint in contract.grippers for joint in self._joints]
        self._reach = np.where(is_gripper, np.inf, np.inf if max_step is None else max_step)

    def keep(
        self,
        targets: NDArray[np.float64],
        velocities: NDArray[np.float64],
        measured: NDArray[np.float64],
    ) -> dict[str, float]:
        """Bring targets near what was measured, in place.

        Args:
            targets: Targets of the coming ticks, rad or m, [M, A].
            velocities: Their velocities, [M, A]; those of targets that are moved become 0.
            measured: Measured positions, [A].

        Returns:
            By how much the next target was moved, of each joint that it was.
        """
        if not self._is_limited:
            return {}
        wanted = targets.copy()
        np.clip(targets, measured - self._reach, measured + self._reach, out=targets)
        moved = np.abs(wanted - targets)
        velocities[moved > 0.0] = 0.0
        return {self._joints[i]: float(moved[0, i]) for i in np.flatnonzero(moved[0])}
