# SPDX-License-Identifier: MIT
"""Film of recorded episodes: the cameras side by side, with the instruction and the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
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
from vla_core.processing.contract import RobotContract

TILE_PX = 384
_HEADER_PX = 56
_RATE_HZ = 20
_HOLD_S = 1.2


def write_video(
    bag: Path, contract: RobotContract, episodes: Sequence[EpisodeResult], path: Path
) -> int:
    """Write an H.264 film of recorded episodes in real time.

    Args:
        bag: Folder of the recording.
        contract: Contract that the run was made with.
        episodes: What to show, in order.
        path: File to write, '.mp4'.

    Returns:
        Number of frames written.

    Raises:
        DatasetError: The recording lacks a camera.
    """
    frames = 0
    with (
        Recording(bag) as recording,
        av.open(str(path), "w", options={"movflags": "faststart"}) as film,
    ):
        stream = film.add_stream("libx264", rate=_RATE_HZ)
        stream.width = TILE_PX * len(contract.cameras)
        stream.height = TILE_PX + _HEADER_PX
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "22"}
        for episode in episodes:
            for picture in _draw_episode(recording, contract, episode, len(episodes)):
                film.mux(stream.encode(av.VideoFrame.from_image(picture)))
                frames += 1
        film.mux(stream.encode(None))
    return frames


def _draw_episode(
    recording: Recording, contract: RobotContract, episode: EpisodeResult, total: int
) -> Iterator[Image.Image]:
    """Draw one picture per frame, then hold the last one with the result."""
    frame = None
    for frame in iter_frames(
        recording, contract, start_ns=episode.start_stamp_ns, stop_ns=episode.end_stamp_ns
    ):
        yield _draw(frame, episode, total, ended=False)
    if frame is not None:
        last = _draw(frame, episode, total, ended=True)
        for _ in range(round(_HOLD_S * _RATE_HZ)):
            yield last


def _draw(frame: Frame, episode: EpisodeResult, total: int, *, ended: bool) -> Image.Image:
    tiles = tile_images(frame.images, TILE_PX)
    picture = Image.new("RGB", (tiles.width, tiles.height + _HEADER_PX), PAPER)
    picture.paste(tiles, (0, _HEADER_PX))
    draw = ImageDraw.Draw(picture)
    elapsed_s = max(0.0, (frame.stamp_ns - episode.start_stamp_ns) / 1e9)
    draw.text(
        (14, 20), f'"{episode.instruction}"', font=load_font(19, bold=True), fill=INK, anchor="lm"
    )
    progress = f"episode {episode.number} of {total}   seed {episode.seed}"
    draw.text((14, 43), progress, font=load_font(13), fill=MUTED, anchor="lm")
    clock = f"{episode.duration_s if ended else elapsed_s:.1f} s"
    right = picture.width - 14
    draw.text((right, 20), clock, font=load_font(19), fill=INK, anchor="rm")
    if ended:
        result = f"{episode.outcome}, lifted {100 * episode.target_lifted_m:.0f} cm"
        draw.text(
            (right, 43),
            result,
            font=load_font(13, bold=True),
            fill=outcome_colour(episode.success),
            anchor="rm",
        )
    return picture
