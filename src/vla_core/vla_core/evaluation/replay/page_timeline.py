# SPDX-License-Identifier: MIT
"""The parts of a replay's page that show moments: the worst ones, and all in their order."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vla_core.evaluation.html import columns, drawing, figure, picture
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.console import format_error
from vla_core.evaluation.replay.figures import draw_window
from vla_core.processing.contract import RobotContract

_WINDOW_S = 10.0
_MOST_WINDOWS = 24


class _Window(NamedTuple):
    """A part of a recording, in s since its first control tick."""

    bag: int
    start_s: float
    stop_s: float

    @property
    def anchor(self) -> str:
        return f"recording{self.bag + 1}-{self.start_s:.1f}s"

    def holds(self, bag: int, time_s: float) -> bool:
        return bag == self.bag and self.start_s <= time_s <= self.stop_s


class Timeline:
    """What a policy answered over the time of its recordings.

    Args:
        metrics: Content of metrics.json.
        results: Replays that the metrics are of.
        contract: The robot.
    """

    def __init__(
        self, metrics: Mapping[str, Any], results: Sequence[BagResult], contract: RobotContract
    ) -> None:
        self._worst: Sequence[Mapping[str, Any]] = metrics["worst"]
        self._units: Mapping[str, str] = metrics["robot"]["units"]
        self._results = results
        self._contract = contract
        windows = [each for bag, result in enumerate(results) for each in _windows(bag, result)]
        self._num_all = len(windows)
        if len(windows) > _MOST_WINDOWS:
            windows = [window for window in windows if self._worst_in(window)]
        self._shown = windows

    def worst(self) -> str:
        """Show the frames of the worst moments."""
        parts = []
        for moment in self._worst:
            bag = moment["bag"]
            result = self._results[bag]
            image = Image.open(io.BytesIO(result.frames[moment["frame"]]))
            caption = f"{moment['time_s']:.1f} s"
            if len(self._results) > 1:
                caption = f"{Path(result.facts['bag']).name}, {caption}"
            caption += f": {moment['instruction']}; {self._describe(moment['errors'])}"
            found = (w.anchor for w in self._shown if w.holds(bag, moment["time_s"]))
            parts.append(figure(picture(image, caption), caption, link=next(found, "")))
        return columns(parts) + '<p class="muted">A caption leads to its moment below.</p>'

    def windows(self) -> str:
        """Draw prediction and recording, part by part."""
        note = ""
        if len(self._shown) < self._num_all:
            note = (
                f'<p class="muted">The parts with the worst moments; {self._num_all} are too many '
                "for a page. The MCAP file has all.</p>"
            )
        links = " ".join(f'<a href="#{w.anchor}">{self._label(w)}</a>' for w in self._shown)
        parts = [self._draw(window) for window in self._shown]
        return note + f"<p>Jump to {links}</p>" + columns(parts)

    def _describe(self, errors: Mapping[str, float | None]) -> str:
        """Name the joint with the largest error, of those that turn if there are any."""
        known = {name: error for name, error in errors.items() if error is not None}
        turning = {name: error for name, error in known.items() if self._units[name] == "rad"}
        found = turning or known
        name = max(found, key=lambda joint: found[joint])
        return f"{name} {format_error(found[name], self._units[name])}"

    def _label(self, window: _Window) -> str:
        name = f"{window.bag + 1}: " if len(self._results) > 1 else ""
        return f"{name}{window.start_s:.0f}&nbsp;s"

    def _worst_in(self, window: _Window) -> list[float]:
        return [m["time_s"] for m in self._worst if window.holds(m["bag"], m["time_s"])]

    def _draw(self, window: _Window) -> str:
        result = self._results[window.bag]
        svg = draw_window(
            result, self._contract, window.start_s, window.stop_s, self._worst_in(window)
        )
        name = Path(result.facts["bag"]).name
        caption = f"{name}, {window.start_s:.1f} to {window.stop_s:.1f} s"
        return figure(drawing(svg, caption), caption, anchor=window.anchor)


def _windows(bag: int, result: BagResult) -> list[_Window]:
    """Return parts of like length, each from its first to its last answer."""
    times_s = (result.ticks["time_ns"] - result.facts["start_ns"]) * 1e-9
    num = max(1, round((times_s[-1] - times_s[0]) / _WINDOW_S))
    edges_s = np.linspace(times_s[0], times_s[-1], num + 1)[1:-1]
    parts = np.split(times_s, np.searchsorted(times_s, edges_s))
    return [_Window(bag, float(part[0]), float(part[-1])) for part in parts if len(part)]
