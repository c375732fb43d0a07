# SPDX-License-Identifier: MIT
"""Figures of a run as SVG, each narrow enough for a phone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vla_core.evaluation.episodes import EpisodeResult
from vla_core.evaluation.recorded_run import RecordedRun
from vla_core.processing.contract import RobotContract

_WIDTH_IN = 4.2
_ROW_IN = 0.95
_TOP_IN = 0.22
_BOTTOM_IN = 0.45
_LEAST_RANGE = 0.02
_MEASURED = "#1d4ed8"
_COMMANDED = "#ea580c"
STYLE: Any = {
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.6,
    "xtick.color": "#4b5563",
    "ytick.color": "#4b5563",
    # The same data gives the same file.
    "svg.hashsalt": "vla",
}


def draw_histogram(samples: NDArray[np.float64], *, label: str, limit: float | None = None) -> str:
    """Draw how often values occurred.

    Args:
        samples: Values, at least one finite, in the unit of the label.
        label: Text of the horizontal axis, with its unit.
        limit: Value that the 99th percentile is to stay below, marked when given.

    Returns:
        The figure as SVG.
    """
    values = samples[np.isfinite(samples)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 2.3), layout="constrained")
        axes = figure.add_subplot()
        axes.hist(values, bins=min(60, max(10, values.size // 10)), color=_MEASURED)
        axes.set_yscale("log")
        axes.axvline(
            float(np.percentile(values, 99)),
            color=_COMMANDED,
            linewidth=1.2,
            label="99th percentile",
        )
        if limit is not None:
            axes.axvline(limit, color="#b91c1c", linewidth=1.2, linestyle="--", label="limit")
        axes.set_xlabel(label)
        axes.set_ylabel("count")
        axes.legend(frameon=False, fontsize=7.5)
        return to_svg(figure)


def draw_joints(run: RecordedRun, contract: RobotContract, episode: EpisodeResult) -> str:
    """Draw every joint of an episode, measured and commanded, one above the other.

    Args:
        run: The recorded run.
        contract: Contract that names the joints.
        episode: The episode to show.

    Returns:
        The figure as SVG.
    """
    commands = run.commands
    measured = _during(run.joint_stamps_ns, episode)
    ticks = _during(commands.stamps_ns, episode)
    measured_s = (run.joint_stamps_ns[measured] - episode.start_stamp_ns) / 1e9
    commanded_s = (commands.stamps_ns[ticks] - episode.start_stamp_ns) / 1e9
    joints: Sequence[str] = contract.state.joints
    with mpl.rc_context(STYLE):
        figure, rows = joint_rows(len(joints))
        for column, (joint, axes) in enumerate(zip(joints, rows, strict=True)):
            scale, unit = (1e3, "mm") if "gripper" in joint else (1.0, "rad")
            axes.plot(
                measured_s[::2],
                scale * run.joint_positions[measured, column][::2],
                color=_MEASURED,
                linewidth=1.1,
                label="measured",
            )
            if joint in contract.action.joints:
                action = contract.action.joints.index(joint)
                axes.plot(
                    commanded_s,
                    scale * commands.positions[ticks, action],
                    color=_COMMANDED,
                    linewidth=0.9,
                    label="commanded",
                )
            label_joint_row(axes, joint, unit, scale)
        rows[-1].set_xlabel("time since the instruction [s]")
        add_legend(rows[0])
        return to_svg(figure)


def joint_rows(num_joints: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with a row for every joint, on one axis of time."""
    height_in = _ROW_IN * num_joints + _TOP_IN + _BOTTOM_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in))
    # Fixed margins: to find them by layout takes longer than to draw the figure.
    figure.subplots_adjust(
        left=0.17, right=0.98, top=1 - _TOP_IN / height_in, bottom=_BOTTOM_IN / height_in
    )
    return figure, list(figure.subplots(num_joints, 1, sharex=True, squeeze=False)[:, 0])


def label_joint_row(axes: Axes, joint: str, unit: str, scale: float) -> None:
    """Name what a row shows once it is drawn.

    Args:
        axes: The row.
        joint: Whose it is.
        unit: Of the values as they are drawn.
        scale: What rad or m were multiplied with.
    """
    axes.set_ylabel(f"{joint}\n[{unit}]", fontsize=7)
    axes.yaxis.set_label_coords(-0.13, 0.5)
    axes.locator_params(axis="y", nbins=3)
    _widen(axes, scale * _LEAST_RANGE)


def add_legend(axes: Axes) -> None:
    """Say above the first row what the colours mean."""
    axes.legend(
        frameon=False,
        ncols=2,
        fontsize=7.5,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderpad=0,
    )


def _widen(axes: Axes, least: float) -> None:
    """Show at least a range, so that the noise of a joint at rest does not look like motion."""
    low, high = axes.get_ylim()
    if high - low < least:
        middle = (low + high) / 2
        axes.set_ylim(middle - least / 2, middle + least / 2)


def _during(stamps_ns: NDArray[np.int64], episode: EpisodeResult) -> NDArray[np.bool_]:
    return (stamps_ns >= episode.start_stamp_ns) & (stamps_ns <= episode.end_stamp_ns)


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG that is the same for the same data."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]
