# SPDX-License-Identifier: MIT
"""Depth as grey: distances within the camera's range, linear, nearest black and farthest white.

A value that is no distance (0, negative, NaN, infinite) counts as the farthest: that is what a
depth camera sees of what it cannot reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError

DEPTH_ENCODINGS = ("16UC1", "32FC1")
"""Depth by REP 118: whole millimetres, and metres."""
MILLIMETRES = ("16UC1", "mono16")
"""16 bit of millimetres; ``mono16`` is a colour for a camera without a depth range."""


def require_depth_range(
    encoding: str, depth_range_m: tuple[float, float] | None
) -> tuple[float, float]:
    """Return the range, or raise MessageError where the camera has none."""
    if depth_range_m is None:
        raise MessageError(
            f"image encoding {encoding!r} is one of depth, which needs the distances that become "
            "black and white; give the camera a depth_range_m: [nearest, farthest] in the "
            "contract."
        )
    return depth_range_m


def depth_to_rgb(
    depth: NDArray[Any], depth_range_m: tuple[float, float], *, unit_m: float = 1.0
) -> NDArray[np.uint8]:
    """Return distances as grey pixels.

    Args:
        depth: Distances, [H, W].
        depth_range_m: Nearest and farthest distance; beyond them the ends of the scale count.
        unit_m: Unit of the distances in m.

    Returns:
        Grey pixels, a view with equal channels, uint8 [H, W, 3].
    """
    nearest, farthest = (np.float32(distance / unit_m) for distance in depth_range_m)
    distances = depth.astype(np.float32)
    is_distance = np.isfinite(distances) & (distances > 0)
    scale = np.float32(255.0) / (farthest - nearest)
    clipped = np.clip(np.where(is_distance, distances, farthest), nearest, farthest)
    grey = np.rint((clipped - nearest) * scale).astype(np.uint8)
    return np.broadcast_to(grey[..., None], (*grey.shape, 3))
