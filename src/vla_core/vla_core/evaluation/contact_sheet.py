# SPDX-License-Identifier: MIT
"""One picture of a whole run: a row per episode with its start, approach, grasp and end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vla_core.dataset.recording import Recording
from vla_core.evaluation.captions import (
    INK,
    MUTED,
    PAPER,
    load_font,
    outcome_colour,
    tile_images,
)
from vla_core.evaluation.episodes import EpisodeResult
from vla_core.evaluation.frames import Frame, iter_frames
from vla_core.evaluation.recorded_run import RecordedRun
from vla_core.processing.contract import RobotContract

_TILE_PX = 150
_LABEL_PX = 230
_HEADER_PX = 30
_GAP_PX = 8
_LIFTED_M = 0.01
_SEARCH_NS = 1_000_000_000


def find_moments(
    run: RecordedRun, contract: RobotContract, episode: EpisodeResult
) -> dict[str, int]:
    """Find the moments that tell an episode's story.

    The grasp is where the gripper has closed half of the way that it closed at most; an episode
    in which nothing was lifted shows its thirds instead.

    Returns:
        Stamps on the robot's clock by label, in order of time.
    """
    start, end = episode.start_stamp_ns, episode.end_stamp_ns
    thirds = {
        "start": start,
        "1/3 of the time": start + (end - start) // 3,
        "2/3 of the time": start + 2 * (end - start) // 3,
        "end": end,
    }
    during = (run.joint_stamps_ns >= start) & (run.joint_stamps_ns <= end)
    grippers = [index for index, name in enumerate(contract.state.joints) if "gripper" in name]
    if not grippers or not during.any() or max(episode.lifted_m.values()) < _LIFTED_M:
        return thirds
    opening_m = run.joint_positions[during, grippers[0]]
    stroke_m = opening_m[0] - opening_m.min()
    closed = np.flatnonzero(opening_m <= opening_m[0] - stroke_m / 2)[0]
    grasp = int(run.joint_stamps_ns[during][closed])
    return {"start": start, "approach": (start + grasp) // 2, "grasp": grasp, "end": end}


def draw_contact_sheet(
    bag: Path,
    run: RecordedRun,
    contract: RobotContract,
    episodes: Sequence[EpisodeResult],
    path: Path,
) -> None:
    """Write the contact sheet of a run.

    Args:
        bag: Folder of the recording.
        run: The same recording, read.
        contract: Contract that the run was made with.
        episodes: Episodes to show, one row each.
        path: Picture to write, '.png'.

    Raises:
        DatasetError: The recording lacks a camera.
    """
    cell_px = _TILE_PX * len(contract.cameras) + _GAP_PX
    row_px = _TILE_PX + _HEADER_PX + _GAP_PX
    sheet = Image.new("RGB", (_LABEL_PX + 4 * cell_px, max(1, len(episodes)) * row_px), PAPER)
    draw = ImageDraw.Draw(sheet)
    with Recording(bag) as recording:
        for row, episode in enumerate(episodes):
            top = row * row_px
            _draw_label(draw, episode, top + _HEADER_PX)
            for column, (label, stamp_ns) in enumerate(
                find_moments(run, contract, episode).items()
            ):
                left = _LABEL_PX + column * cell_px
                elapsed_s = (stamp_ns - episode.start_stamp_ns) / 1e9
                caption = f"{label}, {elapsed_s:.1f} s"
                draw.text(
                    (left, top + _HEADER_PX - 6),
                    caption,
                    font=load_font(13),
                    fill=INK,
                    anchor="ls",
                )
                frame = _frame_at(recording, contract, stamp_ns)
                if frame is not None:
                    sheet.paste(tile_images(frame.images, _TILE_PX), (left, top + _HEADER_PX))
    sheet.save(path)


def _draw_label(draw: ImageDraw.ImageDraw, episode: EpisodeResult, top: int) -> None:
    lines = (
        (f"Episode {episode.number}", load_font(17, bold=True), INK),
        (episode.instruction, load_font(14), INK),
        (f"seed {episode.seed}", load_font(13), MUTED),
        (episode.outcome, load_font(14, bold=True), outcome_colour(episode.success)),
        (f"lifted {100 * episode.target_lifted_m:.1f} cm", load_font(13), MUTED),
    )
    for number, (text, font, colour) in enumerate(lines):
        draw.text((12, top + 4 + 24 * number), text, font=font, fill=colour)


def _frame_at(recording: Recording, contract: RobotContract, stamp_ns: int) -> Frame | None:
    """Return the frame nearest to a moment, None if no camera delivered around it."""
    frames = iter_frames(
        recording, contract, start_ns=stamp_ns - _SEARCH_NS, stop_ns=stamp_ns + _SEARCH_NS
    )
    return min(frames, key=lambda frame: abs(frame.stamp_ns - stamp_ns), default=None)
