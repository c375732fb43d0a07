# SPDX-License-Identifier: MIT
"""Two blocks into a box, one after the other: the scene, its instructions and its judge.

The table, the arm and the blocks are those of `TabletopSim`; beside them stands an open box with
low walls. What the arm has let go of and what lies still inside counts as put.
"""

from __future__ import annotations

from itertools import permutations
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vla_core.sim.arm_model import mujoco
from vla_core.sim.scene import (
    BLOCK_SIZE_M,
    COLOURS,
    BlockPose,
    TabletopSim,
    build_scene,
    draw_block_poses,
)

BOX_CENTRE_M = np.array([0.335, -0.155])
BOX_INNER_HALF_M = np.array([0.072, 0.052])
PLACES_M = BOX_CENTRE_M + np.array([[0.034, 0.0], [-0.034, 0.0]])
WALL_HEIGHT_M = 0.022
FLOOR_M = 0.003
AWAY_HEIGHT_M = 0.085
_WALL_HALF_M = 0.003
_BOX_RGBA = (0.22, 0.20, 0.24, 1.0)
_BLOCK_X_M = (0.25, 0.43)
_BLOCK_Y_M = (-0.02, 0.20)
_REST_SPEED = 0.05
_REST_S = 0.2
_SUCCESS_S = 0.5

WORDINGS = (
    "put the {first} block in the box, then the {second} one",
    "put the {first} cube in the box, then the {second} cube",
    "first put the {first} block in the box, then the {second} one",
    "place the {first} block in the box, then the {second} block",
    "put the {first} cube into the box and then the {second} one",
    "move the {first} block into the box, then the {second} block",
    "drop the {first} cube in the box, then the {second} one",
)
_PAIRS = {f"{first}, then {second}": (first, second) for first, second in permutations(COLOURS, 2)}


class BoxSim(TabletopSim):
    """Put one named block in the box, then another; the third stays where it is."""

    targets: ClassVar[tuple[str, ...]] = tuple(_PAIRS)
    time_limit_s: ClassVar[float] = 40.0

    @staticmethod
    def colours_of(target: str) -> tuple[str, str]:
        """Return the colours that a target names, in their order."""
        return _PAIRS[target]

    @classmethod
    def wordings(cls, target: str) -> tuple[str, ...]:
        """Return every instruction for two colours; the first is the plain one."""
        first, second = _PAIRS[target]
        return tuple(wording.format(first=first, second=second) for wording in WORDINGS)

    def is_inside(self, colour: str) -> bool:
        """Whether a block is between the walls of the box and as low as on its floor."""
        position, _ = self.block_pose(colour)
        is_between = (np.abs(position[:2] - BOX_CENTRE_M) < BOX_INNER_HALF_M).all()
        return bool(is_between and position[2] < FLOOR_M + 0.75 * BLOCK_SIZE_M)

    def next_colour(self, target: str) -> str:
        """Return the block that a target asks for now: the second once the first is put."""
        first, second = _PAIRS[target]
        return second if self.is_inside(first) and not self._is_touched(first) else first

    def put_inside(self, rng: np.random.Generator, colour: str, place: int) -> None:
        """Lay a block close to one of PLACES_M, as a hand would that is not exact."""
        offset = rng.uniform([-0.012, -0.010], [0.012, 0.010])
        position = np.array([*(PLACES_M[place] + offset), FLOOR_M + BLOCK_SIZE_M / 2])
        self.set_block_pose(colour, position, float(rng.uniform(-np.pi / 4, np.pi / 4)))

    def _build_scene(self) -> mujoco.MjSpec:
        scene = build_scene()
        box = scene.worldbody.add_body(name="box", pos=[*BOX_CENTRE_M, 0.0])
        half = WALL_HEIGHT_M / 2
        x, y = BOX_INNER_HALF_M
        outer_y = y + 2 * _WALL_HALF_M
        walls = {
            "floor": ([0.0, 0.0, FLOOR_M / 2], [x, y, FLOOR_M / 2]),
            "front": ([x + _WALL_HALF_M, 0.0, half], [_WALL_HALF_M, outer_y, half]),
            "back": ([-x - _WALL_HALF_M, 0.0, half], [_WALL_HALF_M, outer_y, half]),
            "left": ([0.0, y + _WALL_HALF_M, half], [x, _WALL_HALF_M, half]),
            "right": ([0.0, -y - _WALL_HALF_M, half], [x, _WALL_HALF_M, half]),
        }
        for name, (position, size) in walls.items():
            box.add_geom(
                name=f"box_{name}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=position,
                size=size,
                rgba=_BOX_RGBA,
                friction=[1.0, 0.005, 0.0001],
            )
        return scene

    def _draw_block_poses(self, rng: np.random.Generator) -> list[BlockPose]:
        return draw_block_poses(rng, _BLOCK_X_M, _BLOCK_Y_M)

    def _start_judging(self) -> None:
        self._rest_s = dict.fromkeys(COLOURS, 0.0)
        self._put: list[str] = []
        self._done_s = 0.0

    def _judge(self, elapsed_s: float) -> None:
        first, second = _PAIRS[self._target]
        for colour in COLOURS:
            is_resting = self.is_inside(colour) and self._speed(colour) < _REST_SPEED
            is_put = is_resting and not self._is_touched(colour)
            self._rest_s[colour] = self._rest_s[colour] + elapsed_s if is_put else 0.0
            if self._rest_s[colour] >= _REST_S and colour not in self._put:
                self._put.append(colour)
        if self._put != [first, second][: len(self._put)] and not self._failure:
            wrong = next(c for i, c in enumerate(self._put) if (first, second, "")[i] != c)
            self._failure = f"put the {wrong} block in the box"
            if wrong == second:
                self._failure += " first"
        tool, _ = self.tool_pose()
        is_done = (
            self._put == [first, second]
            and min(self._rest_s[first], self._rest_s[second]) >= _REST_S
            and tool[2] >= AWAY_HEIGHT_M
        )
        self._done_s = self._done_s + elapsed_s if is_done else 0.0
        self._success = self._success or (self._done_s >= _SUCCESS_S and not self._failure)

    def _speed(self, colour: str) -> float:
        velocity: NDArray[np.float64] = self.data.body(f"block_{colour}").cvel[3:]
        return float(np.linalg.norm(velocity))

    def _is_touched(self, colour: str) -> bool:
        geoms = self.data.contact.geom[: self.data.ncon]
        is_block = geoms == self.model.geom(f"block_{colour}").id
        return bool((is_block.any(axis=1) & (self._arm_of_geom[geoms] >= 0).any(axis=1)).any())
