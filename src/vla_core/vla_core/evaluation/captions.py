# SPDX-License-Identifier: MIT
"""Text and tiles for the pictures that an evaluation leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

INK = (28, 32, 38)
MUTED = (107, 114, 128)
PAPER = (255, 255, 255)
GOOD = (22, 128, 61)
BAD = (185, 28, 28)


@lru_cache(maxsize=16)
def load_font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load the font that comes with matplotlib, so that pictures look alike on every machine."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / name), size_px)


def tile_images(images: Mapping[str, NDArray[np.uint8]], size_px: int) -> Image.Image:
    """Put the cameras' images side by side, each scaled to a square and labelled with its name.

    Args:
        images: RGB images by camera, uint8 [H, W, 3].
        size_px: Width and height of one tile.
    """
    row = Image.new("RGB", (size_px * len(images), size_px), PAPER)
    draw = ImageDraw.Draw(row)
    font = load_font(max(11, size_px // 22))
    for column, (camera, pixels) in enumerate(images.items()):
        tile = Image.fromarray(pixels).resize((size_px, size_px), Image.Resampling.BICUBIC)
        left = column * size_px
        row.paste(tile, (left, 0))
        draw.text(
            (left + 6, size_px - 6),
            camera,
            font=font,
            fill=PAPER,
            anchor="ls",
            stroke_width=2,
            stroke_fill=INK,
        )
    return row


def outcome_colour(success: bool) -> tuple[int, int, int]:
    """Return the colour in which an outcome is written."""
    return GOOD if success else BAD
