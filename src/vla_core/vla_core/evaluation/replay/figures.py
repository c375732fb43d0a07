# SPDX-License-Identifier: MIT
"""Figures of a replay as SVG, each narrow enough for a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from vla_core.evaluation.plots import STYLE, add_legend, joint_rows, label_joint_row, to_svg
from vla_core.evaluation.replay.action_units import METRE, SMALL_UNITS, action_units
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.processing.contract import RobotContract

_WIDTH_IN = 4.2
_RECORDED, _PREDICTED, _WORST = "#1d4ed8", "#ea580c", "#b91c1c"
_MOST_POINTS = 1500


def draw_horizon(metrics: Mapping[str, Any], second: Mapping[str, Any] | None = None) -> str:
    """Draw how the error grows over the horizon of a chunk, for each unit.

    Args:
        metrics: Figures of the replay.
        second: Those of a second policy to draw beside.
    """
    over = metrics["error"]["over_horizon"]
    units = [unit for unit in SMALL_UNITS if unit in over]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 1.5 * len(units) + 0.6), layout="constrained")
        rows = figure.subplots(len(units), 1, sharex=True, squeeze=False)[:, 0]
        for unit, axes in zip(units, rows, strict=True):
            scale, name = SMALL_UNITS[unit]
            for label, colour, source in (
                ("first", _RECORDED, metrics),
                ("second", _PREDICTED, second),
            ):
                if source is None:
                    continue
                part = source["error"]["over_horizon"]
                errors = [np.nan if e is None else scale * e for e in part[unit]]
                axes.plot(part["time_s"], errors, color=colour, linewidth=1.4, label=label)
            axes.set_ylabel(f"mean error [{name}]")
            axes.set_ylim(bottom=0)
        if second is not None:
            rows[0].legend(frameon=False, fontsize=7.5)
        rows[-1].set_xlabel("time after the observation [s]")
        return to_svg(figure)


def draw_window(
    result: BagResult,
    contract: RobotContract,
    start_s: float,
    stop_s: float,
    worst_s: Sequence[float],
) -> str:
    """Draw prediction and recording of every joint over a part of a recording.

    Args:
        result: The replay.
        contract: The robot.
        start_s: Beginning of the part, since the first control tick.
        stop_s: Its end.
        worst_s: Moments to mark.
    """
    times_s = (result.ticks["time_ns"] - result.facts["start_ns"]) * 1e-9
    during = np.flatnonzero((times_s >= start_s) & (times_s <= stop_s))
    during = during[:: max(1, len(during) // _MOST_POINTS)]
    # A line over a pause would show what nobody did.
    gaps = np.diff(times_s[during], prepend=times_s[during][:1]) > 3.0 * contract.action.dt_s
    names = contract.action_names
    with mpl.rc_context(STYLE):
        figure, rows = joint_rows(len(names))
        units = action_units(contract)
        for column, (name, unit, axes) in enumerate(zip(names, units, rows, strict=True)):
            scale, label = (1e3, "mm") if unit == METRE else (1.0, "rad")
            for key, colour in (("recorded", _RECORDED), ("predicted", _PREDICTED)):
                values = scale * result.ticks[key][during, column].astype(np.float64)
                values[gaps] = np.nan
                axes.plot(times_s[during], values, color=colour, linewidth=1.0, label=key)
            for moment_s in worst_s:
                axes.axvline(moment_s, color=_WORST, linewidth=0.8, linestyle=":")
            label_joint_row(axes, name, label, scale)
        rows[-1].set_xlabel("time [s]")
        if stop_s > start_s:
            rows[-1].set_xlim(start_s, stop_s)
        add_legend(rows[0])
        return to_svg(figure)
