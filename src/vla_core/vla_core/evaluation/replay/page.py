# SPDX-License-Identifier: MIT
"""The page of a replay: one HTML file that carries its figures and frames and loads nothing."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vla_core.evaluation.html import (
    card,
    columns,
    drawing,
    figure,
    figures,
    page,
    picture,
    section,
    table,
    tall,
)
from vla_core.evaluation.plots import draw_histogram
from vla_core.evaluation.replay.action_units import SMALL_UNITS
from vla_core.evaluation.replay.agreement import agreement_rows, agreement_text, agrees
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.comparison import WORSE
from vla_core.evaluation.replay.console import format_error
from vla_core.evaluation.replay.figures import draw_horizon, draw_window
from vla_core.processing.contract import RobotContract

_WINDOW_S = 10.0
_MOST_WINDOWS = 24


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayPage:
    """What a page shows.

    Attributes:
        metrics: Content of metrics.json.
        results: Replays that the metrics are of.
        contract: The robot.
        first: Metrics of the policy that this one is compared with.
        faults: Limits of the gate that are broken; None without a gate.
    """

    metrics: Mapping[str, Any]
    results: Sequence[BagResult]
    contract: RobotContract
    first: Mapping[str, Any] | None = None
    faults: Sequence[str] | None = None

    @property
    def _moments(self) -> list[tuple[int, float]]:
        """The worst moments: recording and time since its first control tick."""
        return [(moment["bag"], moment["time_s"]) for moment in self.metrics["worst"]]

    def render(self) -> str:
        """Return the page as HTML."""
        metrics = self.metrics
        num_bags = len(metrics["bags"])
        what = Path(metrics["bags"][0]["path"]).name if num_bags == 1 else f"{num_bags} recordings"
        title = f"{metrics['checkpoint']['name']} on {what}"
        parts = [self._head(title), self._cards()]
        if metrics.get("comparison"):
            parts.append(section("Against the first policy", self._comparison()))
        if metrics.get("online"):
            parts.append(section("Over ROS and without", self._online()))
        parts.append(section("Error against the demonstrator", self._errors()))
        if metrics["sensitivity"] is not None:
            parts.append(section("Does it look at its inputs?", self._sensitivity()))
        if metrics["worst"]:
            parts.append(section("Worst moments", self._worst()))
        parts += [
            section("Prediction and recording", self._windows()),
            section("Recordings", self._bags()),
        ]
        return page(title, parts)

    def _head(self, title: str) -> str:
        metrics = self.metrics
        machine = metrics["machine"]
        facts = [
            f"checkpoint {metrics['checkpoint']['id']}",
            metrics["created"],
            f"{machine['cores']} cores, {machine['processor']}",
            "policy_node answered over ROS while the recording was played"
            if metrics.get("online")
            else f"the policy was asked at every control tick, {metrics['robot']['rate_hz']:g} Hz",
        ]
        text = f'<h1>{escape(title)}</h1><p class="muted">{escape("; ".join(facts))}</p>'
        if self.faults is not None:
            verdict = "every limit of the gate is kept" if not self.faults else "gate broken:"
            text += f'<p class="{"bad" if self.faults else "good"}">{verdict}</p>'
            text += "".join(f'<p class="bad">{escape(fault)}</p>' for fault in self.faults)
        for failure in metrics.get("failed", []):
            text += f'<p class="bad">{escape(failure["reason"])}</p>'
        return text

    def _cards(self) -> str:
        metrics = self.metrics
        ticks, latency = metrics["ticks"], metrics["timing"]["latency_s"]
        cards = [
            card(
                format_error(figures_["mae"], unit), f"mean error over the chunk, joints in {unit}"
            )
            for unit, figures_ in metrics["error"]["total"].items()
            if unit in SMALL_UNITS and figures_
        ]
        if metrics["gripper"]:
            agreement, chance = (metrics["gripper"][key] for key in ("agreement", "by_chance"))
            label = f"gripper agrees; {chance:.0%} if it never moved"
            cards.append(card(f"{agreement:.1%}", label, is_good=agreement >= chance))
        if metrics["direction"]:
            cards.append(card(f"{metrics['direction']['p50']:.3f}", "median cosine of the motion"))
        if metrics["limiter"]["cut_share"] is not None:
            share = metrics["limiter"]["cut_share"]
            cards.append(card(f"{share:.0%}", "commands that a limit would have changed"))
        cards += [
            card(f"{1e3 * latency['p50']:.0f} ms", "median inference latency"),
            card(
                str(ticks["gap"]),
                f"control ticks without an observation, {ticks['answered']} answered",
                is_good=not ticks["gap"],
            ),
        ]
        return f'<div class="cards">{"".join(cards)}</div>'

    def _comparison(self) -> str:
        comparison = self.metrics["comparison"]
        rows = []
        for name in ("policy", *SMALL_UNITS):
            if name not in comparison:
                continue
            part = comparison[name]
            scale, unit = SMALL_UNITS.get(name, (1.0, "policy's space"))
            is_worse = part["verdict"] == WORSE
            rows.append(
                [
                    f"mean error [{escape(unit)}]",
                    f"{scale * part['first_mae']:.4g}",
                    f"{scale * part['second_mae']:.4g}",
                    f"{scale * part['difference']:+.3g}",
                    f"{scale * part['lower']:+.3g} to {scale * part['upper']:+.3g}",
                    f'<span class="{"bad" if is_worse else "word"}">{part["verdict"]}</span>',
                ]
            )
        head = ["", "#first", "#second", "#difference", "#95% interval", "verdict"]
        note = (
            f"First: checkpoint {comparison['first']}; second: {comparison['second']}, which this "
            "page is about. The interval comes from drawing blocks of control ticks."
        )
        return table(head, rows) + f'<p class="muted">{escape(note)}</p>'

    def _online(self) -> str:
        online = self.metrics["online"]
        text = f'<p class="{"good" if agrees(online) else "bad"}">{agreement_text(online)}.</p>'
        for reason, count in online["waits"].items():
            text += f'<p class="muted">It waited {count} times: {escape(reason)}</p>'
        rows = [[escape(part) for part in row] for row in agreement_rows(online)]
        if not rows:
            return text
        note = (
            "Offline the policy is asked at every control tick and answers at once. Online it "
            "answers as often as it can, its chunks begin with what the arm would have executed "
            "meanwhile, and the limits are those of command_node."
        )
        head = ["", "#online", "#offline", "#difference"]
        return text + table(head, rows) + f'<p class="muted">{note}</p>'

    def _errors(self) -> str:
        rows = []
        for name, joint in self.metrics["error"]["joints"].items():
            unit, first = joint["unit"], joint["first_step"]
            jerk = self.metrics["smoothness"]["jerk_rms"][name]
            rows.append(
                [
                    escape(name),
                    *(format_error(joint.get(key), unit) for key in ("mae", "rmse", "max")),
                    format_error(first and first["mae"], unit),
                    *(_number(jerk[key]) for key in ("predicted", "recorded")),
                ]
            )
        head = ["", "#mean", "#rms", "#largest", "#first step"]
        head += ["#jerk of chunks [1/s^3]", "#as recorded"]
        latencies = np.concatenate([result.ticks["latency_s"] for result in self.results])
        drawings = {
            "Error over the horizon": draw_horizon(self.first, self.metrics)
            if self.first
            else draw_horizon(self.metrics),
            "Inference latency": draw_histogram(1e3 * latencies, label="latency [ms]"),
        }
        return table(head, rows) + figures(drawings)

    def _sensitivity(self) -> str:
        sensitivity = self.metrics["sensitivity"]
        rows = [
            [
                "nothing spoilt, another seed",
                f"{sensitivity['change_by_chance']:.3f}",
                f"{sensitivity['error']:.3f}",
                "",
            ]
        ]
        for name, check in sensitivity["checks"].items():
            verdict = ("good", "reacts") if check["reacts"] else ("bad", "does not look")
            rows.append(
                [
                    escape(name),
                    f"{check['change']:.3f}",
                    f"{check['error']:.3f}",
                    f'<span class="{verdict[0]}">{verdict[1]}</span>',
                ]
            )
        note = (
            f"{sensitivity['count']} moments again with one input spoilt: mean change of the "
            "chunk and error, both in the policy's space, where joints have like ranges."
        )
        head = ["", "#change", "#error", "verdict"]
        return table(head, rows) + f'<p class="muted">{escape(note)}</p>'

    def _worst(self) -> str:
        parts = []
        for moment in self.metrics["worst"]:
            result = self.results[moment["bag"]]
            image = Image.open(io.BytesIO(result.frames[moment["frame"]]))
            errors = {k: e for k, e in moment["errors"].items() if e is not None}
            units = self.metrics["robot"]["units"]
            worst = max(errors, key=lambda name: errors[name] if units[name] == "rad" else 0.0)
            caption = f"{moment['time_s']:.1f} s"
            if len(self.results) > 1:
                caption = f"{Path(result.facts['bag']).name}, {caption}"
            caption += f": {moment['instruction']}; {worst} "
            caption += format_error(errors[worst], units[worst])
            link = _anchor(moment["bag"], int(moment["time_s"] // _WINDOW_S))
            parts.append(figure(picture(image, caption), caption, link=link))
        return columns(parts) + '<p class="muted">A caption leads to its moment below.</p>'

    def _windows(self) -> str:
        windows = []
        for bag, result in enumerate(self.results):
            times_s = (result.ticks["time_ns"] - result.facts["start_ns"]) * 1e-9
            windows += [(bag, int(number)) for number in np.unique(times_s // _WINDOW_S)]
        note = ""
        if len(windows) > _MOST_WINDOWS:
            worst = {(bag, int(time_s // _WINDOW_S)) for bag, time_s in self._moments}
            note = (
                f'<p class="muted">The parts with the worst moments; {len(windows)} are too many '
                "for a page. The MCAP file has all.</p>"
            )
            windows = [window for window in windows if window in worst]
        links = " ".join(
            f'<a href="#{_anchor(bag, number)}">{self._label(bag, number)}</a>'
            for bag, number in windows
        )
        parts = [self._window(bag, number) for bag, number in windows]
        return note + f"<p>Jump to {links}</p>" + columns(parts)

    def _label(self, bag: int, number: int) -> str:
        name = f"{bag + 1}: " if len(self.results) > 1 else ""
        return f"{name}{number * _WINDOW_S:.0f}&nbsp;s"

    def _window(self, bag: int, number: int) -> str:
        result = self.results[bag]
        start_s = number * _WINDOW_S
        last_s = (result.ticks["time_ns"][-1] - result.facts["start_ns"]) * 1e-9
        stop_s = min(start_s + _WINDOW_S, math.ceil(last_s))
        worst_s = [t for b, t in self._moments if b == bag and start_s <= t < stop_s]
        svg = draw_window(result, self.contract, start_s, stop_s, worst_s)
        caption = f"{Path(result.facts['bag']).name}, {start_s:.0f} to {stop_s:.0f} s"
        return figure(drawing(svg, caption), caption, anchor=_anchor(bag, number))

    def _bags(self) -> str:
        bags = self.metrics["bags"]
        rows = [
            [
                str(number + 1),
                escape(bag["path"]),
                f"{bag['duration_s']:.1f} s",
                str(bag["ticks"]["answered"]),
                str(bag["ticks"]["gap"]),
                _number(bag["policy_mae"]),
                escape(", ".join(bag["instructions"])),
            ]
            for number, bag in enumerate(bags)
        ]
        head = ["#", "recording", "#length", "#answered", "#gaps", "#error", "instructions"]
        topics = [
            [
                str(number + 1),
                escape(topic),
                str(part["count"]),
                _number(part["rate_hz"]),
                str(part["dropped"]),
                str(part["stalls"]),
                f"{1e3 * part['longest_s']:.0f} ms",
            ]
            for number, bag in enumerate(bags)
            for topic, part in bag["topics"].items()
        ]
        topic_head = [
            "#",
            "topic",
            "#messages",
            "#rate [Hz]",
            "#dropped",
            "#stalls",
            "#longest gap",
        ]
        ages = self.metrics["timing"]["ages_s"]
        age_rows = [
            [escape(name), *(f"{1e3 * part[key]:.1f} ms" for key in ("p50", "p95", "maximum"))]
            for name, part in ages.items()
            if part
        ]
        age_head = ["age at the control tick", "#median", "#95 %", "#largest"]
        return (
            tall(table(head, rows)) + table(age_head, age_rows) + tall(table(topic_head, topics))
        )


def _anchor(bag: int, number: int) -> str:
    return f"recording{bag + 1}-{number * _WINDOW_S:.0f}s"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
