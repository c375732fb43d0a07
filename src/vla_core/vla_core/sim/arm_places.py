# SPDX-License-Identifier: MIT
"""Random places of the arm: anywhere above the table, close to a block, around one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_core.sim.arm_kinematics import ArmKinematics
from vla_core.sim.arm_model import HOME
from vla_core.sim.scene import BLOCK_SIZE_M, TabletopSim

_HELD_OPENING_M = BLOCK_SIZE_M / 2 - 0.0012


class ArmPlaces:
    """Draws joint positions, for the scenes of a pre-training and the starts of an expert."""

    def __init__(self, sim: TabletopSim) -> None:
        """Draw the arm's places for one simulation."""
        self._sim = sim
        self._kinematics = ArmKinematics()

    def anywhere(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return joint positions [7] with the tool anywhere above the table."""
        position = rng.uniform([0.20, -0.22, 0.06], [0.45, 0.22, 0.30])
        return self._reach(rng, position)

    def near_block(self, rng: np.random.Generator, colour: str) -> NDArray[np.float64]:
        """Return joint positions [7] with the tool above or beside a block's place."""
        block, yaw = self._sim.block_pose(colour)
        height = block[2] + rng.uniform(0.0, 0.12)
        spread = 0.004 + 0.25 * max(0.0, height - block[2] - 0.02)
        position = np.array([*(block[:2] + rng.normal(0.0, spread, 2)), height])
        return self._reach(rng, position, yaw + rng.normal(0.0, 0.1 + 2.0 * spread))

    def holding(
        self, rng: np.random.Generator, colour: str, lowest_m: float = 0.022
    ) -> NDArray[np.float64]:
        """Return joint positions [7] around a block, which is moved into the fingers."""
        position = rng.uniform([0.24, -0.19, lowest_m], [0.43, 0.19, 0.18])
        yaw = rng.uniform(-np.pi / 4, np.pi / 4)
        self._sim.set_block_pose(colour, position - [0.0, 0.0, 0.002], yaw)
        return self._reach(rng, position, yaw, _HELD_OPENING_M)

    def _reach(
        self,
        rng: np.random.Generator,
        position: NDArray[np.float64],
        yaw: float | None = None,
        opening: float | None = None,
    ) -> NDArray[np.float64]:
        yaw = float(rng.uniform(-1.0, 1.0)) if yaw is None else float(np.clip(yaw, -1.5, 1.5))
        arm = self._kinematics.solve(HOME[:-1], position, yaw)
        is_open = rng.random() < 0.7
        drawn = rng.uniform(0.036, 0.044) if is_open else rng.uniform(0.0, 0.044)
        return np.append(arm, drawn if opening is None else opening)
