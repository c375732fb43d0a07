# SPDX-License-Identifier: MIT
"""Renders of the table-top with the whereabouts of every block, to pre-train a VLM on.

Each is a scene with the arm at a random place: anywhere above the table, close to a block,
or holding one. The labels say where each block appears in each image and where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError
from vla_core.sim.arm_places import ArmPlaces
from vla_core.sim.box_scene import BoxSim
from vla_core.sim.scene import CAMERAS, COLOURS, TabletopSim
from vla_core.sim.tasks import DEFAULT_TASK, RENDER_SIZE, get_task

POSE_DIM = 5
POSITION_SCALE_M = 0.25
_MIN_VISIBLE_PIXELS = 20
_CENTRE_M = np.array([0.33, 0.0, 0.06])


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingData:
    """Rendered scenes and where their blocks are.

    Attributes:
        images: Front and wrist frames, uint8 [M, N, H, W, 3] of M scenes.
        visible: Whether a camera sees a block, bool [M, N, colours].
        centre: Centre of the block's visible pixels, as (x, y) in [0, 1] of the image,
            float32 [M, N, colours, 2]; 0 where not visible.
        pose: Place and yaw of the block, float32 [M, N, colours, POSE_DIM]: position (x, y, z)
            less a centre, over POSITION_SCALE_M, and (sin, cos) of four times the yaw. For the
            front camera in the base frame, for the wrist camera in the tool frame.
        asked: Which block each of the simulation's targets asks for, as an index into COLOURS,
            int64 [M, targets].
    """

    images: NDArray[np.uint8]
    visible: NDArray[np.bool_]
    centre: NDArray[np.float32]
    pose: NDArray[np.float32]
    asked: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.images)

    def rows(self, rows: slice) -> GroundingData:
        """Return some of the scenes, without copying."""
        return GroundingData(
            **{field.name: getattr(self, field.name)[rows] for field in fields(self)}
        )

    @classmethod
    def concatenate(cls, parts: Sequence[GroundingData]) -> GroundingData:
        """Join the scenes of several parts."""
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )


def render_grounding_data(
    num_scenes: int, first_seed: int, image_size: int, task: str = DEFAULT_TASK
) -> GroundingData:
    """Render scenes with labels.

    The images are rendered at the camera's size and reduced to `image_size` by area, as a policy
    sees them.

    Args:
        num_scenes: How many.
        first_seed: Seed of the first scene; each next scene takes the next seed.
        image_size: Side of the images, px; must divide RENDER_SIZE.
        task: Task with blocks; the box, where there is one, holds none, one or two of them.

    Returns:
        The scenes.

    Raises:
        ConfigError: If the image size does not divide RENDER_SIZE, or the task has no blocks.
        UnknownNameError: If there is no such task.
    """
    kind = get_task(task).simulation_class()
    if not issubclass(kind, TabletopSim):
        raise ConfigError(f"task {task!r} has no coloured blocks to point at.")
    if RENDER_SIZE % image_size:
        raise ConfigError(f"image_size must divide {RENDER_SIZE}, got {image_size}.")
    sim = kind()
    places = ArmPlaces(sim)
    scenes = []
    for seed in range(first_seed, first_seed + num_scenes):
        rng = np.random.default_rng(seed)
        target = sim.reset(seed)
        if isinstance(sim, BoxSim):
            for place, colour in enumerate(rng.permutation(list(COLOURS))[: rng.choice(3)]):
                sim.put_inside(rng, str(colour), place)
        colour = sim.next_colour(target)
        where = rng.choice(["anywhere", "near", "holding"], p=[0.4, 0.4, 0.2])
        if where == "anywhere":
            positions = places.anywhere(rng)
        elif where == "near":
            positions = places.near_block(rng, colour)
        else:
            positions = places.holding(rng, colour)
        sim.set_joint_positions(positions)
        scenes.append(_label(sim, image_size))
    sim.close()
    return GroundingData.concatenate(scenes)


def _label(sim: TabletopSim, image_size: int) -> GroundingData:
    images, visible, centre, pose = [], [], [], []
    tool, rotation = sim.tool_pose()
    tool_yaw = np.arctan2(rotation[1, 1], rotation[0, 1]) - np.pi / 2
    for camera in CAMERAS:
        images.append(_reduce(sim.render(camera), image_size))
        blocks = sim.render_segmentation(camera)
        for index, colour in enumerate(COLOURS):
            rows, columns = np.nonzero(blocks == index)
            is_visible = len(rows) >= _MIN_VISIBLE_PIXELS
            visible.append(is_visible)
            middle = (columns.mean() + 0.5, rows.mean() + 0.5) if is_visible else (0.0, 0.0)
            centre.append(np.array(middle) / RENDER_SIZE)
            block, yaw = sim.block_pose(colour)
            if camera == "wrist":
                place, angle = rotation.T @ (block - tool), yaw - tool_yaw
            else:
                place, angle = block - _CENTRE_M, yaw
            pose.append([*(place / POSITION_SCALE_M), np.sin(4 * angle), np.cos(4 * angle)])
    shape = (1, len(CAMERAS), len(COLOURS))
    asked = [list(COLOURS).index(sim.next_colour(target)) for target in sim.targets]
    return GroundingData(
        images=np.stack(images)[None],
        visible=np.array(visible).reshape(shape),
        centre=np.array(centre, dtype=np.float32).reshape(*shape, 2),
        pose=np.array(pose, dtype=np.float32).reshape(*shape, POSE_DIM),
        asked=np.array([asked]),
    )


def _reduce(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Shrink a square image [H, H, 3] to [size, size, 3] by averaging whole pixels."""
    factor = len(image) // size
    means = image.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))
    return np.round(means).astype(np.uint8)
