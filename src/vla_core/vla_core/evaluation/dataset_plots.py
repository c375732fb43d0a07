# SPDX-License-Identifier: MIT
"""Pictures of a dataset: histograms of its values, and thumbnails of its episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageOps

from vla_core.dataset.reader import EpisodeDataset
from vla_core.errors import DatasetError
from vla_core.evaluation.captions import INK, MUTED, PAPER, load_font

_COLUMNS = 4
_TILE_PX = 96
_NUM_TILES = 6
_MARGIN_PX = 12
_CAPTION_PX = 24
_COLOUR = "#1d4ed8"


def draw_value_histograms(dataset: EpisodeDataset, key: str) -> Figure:
    """Draw a histogram of every value of a column, over all frames.

    Args:
        dataset: The dataset.
        key: Such as ``'action'``.

    Raises:
        DatasetError: There is no such column, or a file is damaged.
    """
    values = dataset.column(key).reshape(dataset.num_frames, -1)
    names = dataset.features[key].names or [str(i) for i in range(values.shape[1])]
    num_rows = -(-len(names) // _COLUMNS)
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(2.6 * _COLUMNS, 1.9 * num_rows + 0.4), layout="constrained")
        figure.suptitle(f"{key}: {dataset.num_frames} frames of {dataset.num_episodes} episodes")
        for place, name in enumerate(names):
            axes = figure.add_subplot(num_rows, _COLUMNS, place + 1)
            column = values[:, place]
            axes.hist(column, bins=40, color=_COLOUR)
            for share in (0.01, 0.99):
                axes.axvline(float(np.quantile(column, share)), color="#ea580c", linewidth=0.8)
            axes.set_title(name, fontsize=8)
            axes.set_yticks([])
    return figure


def draw_thumbnails(dataset: EpisodeDataset, episodes: Sequence[int]) -> tuple[Image.Image, str]:
    """Draw a row per episode: its first camera from the beginning to the end.

    Args:
        dataset: The dataset.
        episodes: Places of the episodes.

    Returns:
        The picture, and what is wrong with the episodes that could not be drawn, a line each.
    """
    row_px = _TILE_PX + _CAPTION_PX
    size = (2 * _MARGIN_PX + _NUM_TILES * _TILE_PX, 2 * _MARGIN_PX + len(episodes) * row_px)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    font = load_font(12)
    problems = []
    for row, episode in enumerate(episodes):
        top = _MARGIN_PX + row * row_px
        number, length = dataset.episode_numbers[episode], dataset.episode_lengths[episode]
        seconds = length / dataset.fps
        caption = f"{number}  {dataset.tasks[episode]}"
        draw.text((_MARGIN_PX, top + 4), caption[:60], font=font, fill=INK)
        right = size[0] - _MARGIN_PX
        draw.text((right, top + 4), f"{seconds:.1f} s", font=font, fill=MUTED, anchor="ra")
        try:
            for column, tile in enumerate(_thumbnails(dataset, episode)):
                left = _MARGIN_PX + column * _TILE_PX
                sheet.paste(tile, (left, top + _CAPTION_PX))
        except DatasetError as error:
            problems.append(f"episode {number}: {error}")
            draw.text((_MARGIN_PX, top + _CAPTION_PX), "damaged", font=font, fill=INK)
    return sheet, "\n".join(problems)


def _thumbnails(dataset: EpisodeDataset, episode: int) -> Iterator[Image.Image]:
    camera = dataset.camera_names[0]
    length = dataset.episode_lengths[episode]
    shown = np.linspace(0, length - 1, _NUM_TILES).round().astype(int).tolist()
    for number, frames in enumerate(dataset.frames(episode, [camera])):
        for _ in range(shown.count(number)):
            size = (_TILE_PX - 2, _TILE_PX - 2)
            yield ImageOps.contain(Image.fromarray(frames[camera]), size)
