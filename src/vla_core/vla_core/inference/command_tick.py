# SPDX-License-Identifier: MIT
"""What one tick of the command loop decided, for whoever sends and reports it."""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class CommandMode(enum.IntEnum):
    """What the arm is doing; the numbers are those of ``vla_msgs/CommandStatus``."""

    WAITING = 0
    EXECUTING = 1
    STOPPING = 2
    HOLDING = 3


class CommandTick(NamedTuple):
    """What one tick decided.

    Attributes:
        mode: What the arm is doing.
        reason: Why, for a human; empty when it executes normally.
        plan: Positions and velocities for 1, 2, ... ticks from now, float64 [2, M, A], at rest at
            the end; None: stay silent.
        position: Command for this instant, [A]; None when nothing is commanded.
        velocity: Its velocity, [A]; None when nothing is commanded.
        target: What is wanted for the next tick before any limit, with grippers that only open
            and close decided, [A]; None unless somebody is followed.
        limited_joints: Joints that a limit kept from their target.
        joint_cuts: How far each of them stays from it, rad or m.
        tool_cut_m: How far the tool stays from where the chunk wants it, because of the workspace
            or of what the arm can reach, m.
        pace: How fast the chunk's time runs: below 1 where its successor is late.
        switch_jump: Largest distance between the old and the new chunk if this tick is the first
            with a new one, else 0.
        chunk_sequence: Sequence of the chunk that the arm follows, 0 for none: a new one takes
            effect after what is committed.
        chunk_age_s: Age of the newest chunk's observation, NaN for none.
        state_age_s: Age of the newest joint state, infinite for none.
    """

    mode: CommandMode
    reason: str
    plan: NDArray[np.float64] | None
    position: NDArray[np.float64] | None
    velocity: NDArray[np.float64] | None
    target: NDArray[np.float64] | None
    limited_joints: tuple[str, ...]
    joint_cuts: tuple[float, ...]
    tool_cut_m: float
    pace: float
    switch_jump: float
    chunk_sequence: int
    chunk_age_s: float
    state_age_s: float
