# SPDX-License-Identifier: MIT
"""The loss curve of a run as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

_MAX_POINTS = 2000
_SMOOTHED_SHARE = 0.02


def plot_losses(
    path: Path,
    steps: Sequence[int],
    losses: Sequence[float],
    validation_steps: Sequence[int],
    validation_errors: Sequence[float],
) -> None:
    """Draw the loss of every step, its moving average and the validation error.

    Args:
        path: PNG file to write.
        steps: Steps of the losses.
        losses: Loss of each step.
        validation_steps: Steps after which was validated.
        validation_errors: Mean open-loop error at each of them, in normalised units.
    """
    figure = Figure(figsize=(9, 5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    x, y = np.asarray(steps), np.asarray(losses, np.float64)
    thin = slice(None, None, max(len(x) // _MAX_POINTS, 1))
    lines = axes.plot(x[thin], y[thin], color="tab:blue", alpha=0.25, linewidth=0.7, label="loss")
    lines += axes.plot(x[thin], _smooth(y)[thin], color="tab:blue", label="loss, smoothed")
    if len(validation_steps) > 0:
        right = axes.twinx()
        right.set_ylabel("open-loop error, normalised")
        right.set_ylim(0.0, 1.1 * max(validation_errors))
        lines += right.plot(
            validation_steps,
            validation_errors,
            color="tab:orange",
            marker="o",
            markersize=3,
            label="open-loop error, held-out episodes",
        )
    axes.legend(handles=lines, loc="upper right")
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png")
    os.replace(partial, path)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over a window that is shorter at both ends."""
    window = max(int(len(values) * _SMOOTHED_SHARE), 1)
    total = np.concatenate([[0.0], values.cumsum()])
    index = np.arange(len(values))
    low, high = np.maximum(index - window, 0), np.minimum(index + window + 1, len(values))
    return (total[high] - total[low]) / (high - low)
