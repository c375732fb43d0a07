# SPDX-License-Identifier: MIT
"""A scripted expert that puts two blocks in the box, one after the other.

Like the expert that lifts a block it has no memory: which block is next is seen in the box.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vla_core.sim.box_scene import BOX_CENTRE_M, PLACES_M, WALL_HEIGHT_M, BoxSim
from vla_core.sim.expert import GRIPPER_CLOSED_M, GRIPPER_OPEN_M, ScriptedExpert

_CARRY_HEIGHT_M = 0.11
_RELEASE_HEIGHT_M = WALL_HEIGHT_M + 0.021
_CLEAR_HEIGHT_M = 0.085
_REST_HEIGHT_M = 0.13
_OVER_BOX_M = np.array([0.09, 0.07])
_LET_GO_M = 0.034
_STARTS = {"home": 0.45, "anywhere": 0.15, "near": 0.25, "holding": 0.15}
_SECOND_PROBABILITY = 0.4


class BoxExpert(ScriptedExpert):
    """Chooses the next joint target from the true poses in the simulation."""

    time_limit_s: ClassVar[float] = 30.0
    hold_steps: ClassVar[int] = 4
    _sim: BoxSim

    def act(self, command: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the joint target to be reached at the next action step.

        Args:
            command: The present joint command in the order of the joints, rad and m, [7].

        Returns:
            The next joint target, rad and m, [7].
        """
        target = self._sim.task_status().target
        first, second = self._sim.colours_of(target)
        colour = self._sim.next_colour(target)
        block, block_yaw = self._sim.block_pose(colour)
        tool, yaw = self._kinematics.tool_pose(command[:-1])
        opening = self._sim.joint_positions()[-1]
        over_box = bool((np.abs(tool[:2] - BOX_CENTRE_M) < _OVER_BOX_M).all())
        is_low = over_box and tool[2] < _CLEAR_HEIGHT_M
        is_beside = float(np.linalg.norm(block[:2] - tool[:2])) > 0.03
        gripper = GRIPPER_OPEN_M
        if self._holds(block):
            place = self._free_place(second if colour == first else first)
            distance = float(np.linalg.norm(place - tool[:2]))
            far = float(np.clip((distance - 0.008) / 0.04, 0.0, 1.0))
            height = _RELEASE_HEIGHT_M + (_CARRY_HEIGHT_M - _RELEASE_HEIGHT_M) * far
            goal, goal_yaw = np.array([*place, height]), 0.0
            is_there = distance < 0.010 and tool[2] < _RELEASE_HEIGHT_M + 0.006
            gripper = GRIPPER_OPEN_M if is_there else GRIPPER_CLOSED_M
        elif is_low and opening < _LET_GO_M and tool[2] > _RELEASE_HEIGHT_M - 0.009:
            goal, goal_yaw = tool, yaw
        elif self._sim.is_inside(colour) or (is_low and is_beside):
            goal, goal_yaw = np.array([*tool[:2], _REST_HEIGHT_M]), yaw
        else:
            goal, goal_yaw, gripper = self._grasp(block, block_yaw, tool, yaw)
        return self._move(command, goal, goal_yaw, gripper, clear_m=_CLEAR_HEIGHT_M)

    def choose_start(self, rng: np.random.Generator) -> tuple[str, NDArray[np.float64] | None]:
        """Choose where a demonstration starts.

        Returns:
            'home', or 'anywhere', 'near' the next block or 'holding' it, each with ', second'
            where the first block is already in the box; and joint positions [7], None for home.
        """
        first, second = self._sim.colours_of(self._sim.task_status().target)
        start = str(rng.choice(list(_STARTS), p=list(_STARTS.values())))
        colour, said = first, start
        if rng.random() < _SECOND_PROBABILITY:
            colour, said = second, f"{start}, second"
            self._sim.put_inside(rng, first, 0)
        if start == "home":
            return said, None if colour == first else self._sim.home
        if start == "holding":
            return said, self._places.holding(rng, colour, lowest_m=_CLEAR_HEIGHT_M)
        positions = self._draw_free(rng, start, colour)
        return said, self._sim.home if positions is None else positions

    def _free_place(self, other: str) -> NDArray[np.float64]:
        """Return where in the box a block goes, [2]: away from the other one that is there."""
        if not self._sim.is_inside(other):
            return PLACES_M[0]
        gaps = np.linalg.norm(PLACES_M - self._sim.block_pose(other)[0][:2], axis=1)
        return PLACES_M[gaps.argmax()]
