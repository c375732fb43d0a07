# SPDX-License-Identifier: MIT
"""The page of a replay: one HTML file that carries its figures and frames and loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from vla_core.evaluation.html import (
    card,
    cards,
    figures,
    page,
    section,
    table,
    tall,
)
from vla_core.evaluation.plots import draw_histogram
from vla_core.evaluation.replay.action_units import SMALL_UNITS
from vla_core.evaluation.replay.agreement import agreement_rows, agreement_text, agrees
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.comparison import WORSE, format_interval
from vla_core.evaluation.replay.console import format_cuts, format_error, held_back_most
from vla_core.evaluation.replay.figures import draw_horizon
from vla_core.evaluation.replay.page_timeline import Timeline
from vla_core.processing.contract import RobotContract

_LEAST_SHARE = 1e-3
"""Share of a table's largest figure below which a figure is 0 to a reader."""


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

    def render(self) -> str:
        """Return the page as HTML."""
        metrics = self.metrics
        num_bags = len(metrics["bags"])
        what = Path(metrics["bags"][0]["path"]).name if num_bags == 1 else f"{num_bags} recordings"
        title = f"{metrics['checkpoint']['name']} on {what}"
        parts = [self._head(title), self._cards()]
        timeline = Timeline(metrics, self.results, self.contract)
        if metrics.get("comparison"):
            parts.append(section("Against the first policy", self._comparison()))
        if metrics.get("online"):
            parts.append(section("Over ROS and without", self._online()))
        parts.append(section("Error against the recording", self._errors()))
        parts.append(section("What the limits hold back", self._limits()))
        if metrics["sensitivity"] is not None:
            parts.append(section("Does it look at its inputs?", self._sensitivity()))
        if metrics["worst"]:
            parts.append(section("Worst moments", timeline.worst()))
        parts += [
            section("Prediction and recording", timeline.windows()),
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
        if any(bag["is_run_of_a_policy"] for bag in metrics["bags"]):
            text += (
                '<p class="muted">A policy commanded the robot when this was recorded. It is '
                "compared with what was commanded then, which is no demonstration.</p>"
            )
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
        found = [
            card(
                format_error(figures_["mae"], unit), f"mean error over the chunk, joints in {unit}"
            )
            for unit, figures_ in metrics["error"]["total"].items()
            if unit in SMALL_UNITS and figures_
        ]
        if metrics["gripper"]:
            agreement, chance = (metrics["gripper"][key] for key in ("agreement", "by_chance"))
            label = f"gripper agrees; {chance:.0%} if it never moved"
            found.append(card(f"{agreement:.1%}", label, is_good=agreement >= chance))
        if metrics["direction"]:
            found.append(card(f"{metrics['direction']['p50']:.3f}", "median cosine of the motion"))
        if (held := held_back_most(metrics["limiter"])) is not None:
            name, joint = held
            mean, most = format_cuts(joint)
            found.append(card(mean, f"that limits hold {name} back, on average; {most} at most"))
        found += [
            card(f"{1e3 * latency['p50']:.0f} ms", "median inference latency"),
            card(
                str(ticks["gap"]),
                f"control ticks without an observation, {ticks['answered']} answered",
                is_good=not ticks["gap"],
            ),
        ]
        return cards(found)

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
                    format_interval(part, scale),
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
            rows.append(
                [
                    escape(name),
                    *(format_error(joint.get(key), unit) for key in ("mae", "rmse", "max")),
                    format_error(first and first["mae"], unit),
                ]
            )
        head = ["", "#mean", "#rms", "#largest", "#first step"]
        latencies = np.concatenate([result.ticks["latency_s"] for result in self.results])
        drawings = {
            "Error over the horizon": draw_horizon(self.first, self.metrics)
            if self.first
            else draw_horizon(self.metrics),
            "Inference latency": draw_histogram(1e3 * latencies, label="latency [ms]"),
        }
        return table(head, rows) + figures(drawings)

    def _limits(self) -> str:
        limiter, smoothness = self.metrics["limiter"], self.metrics["smoothness"]
        jerks = smoothness["jerk_rms"]
        largest = max((j for jerk in jerks.values() for j in jerk.values() if j), default=0.0)
        rows = []
        for name in dict.fromkeys([*limiter["joints"], *jerks]):
            joint, jerk = limiter["joints"].get(name), jerks.get(name, {})
            cuts = ["", "", ""]
            if joint is not None:
                cuts = [f"{joint['cut_share']:.0%}", *format_cuts(joint)]
            roughness = [_number(jerk.get(key), largest) for key in ("predicted", "recorded")]
            rows.append([escape(name), *cuts, *roughness])
        head = ["", "#held back", "#mean", "#largest", "#jerk of chunks [1/s^3]", "#as recorded"]
        notes = [
            "The command loop follows the chunks as closely as range, velocity, acceleration and "
            "jerk of each joint allow. Held back: share of commands that stay away from what the "
            "chunk wants then; mean (over all commands) and largest: by how much. That is much "
            "for a chunk that asks for steps which the joint cannot do in their time."
        ]
        if limiter["cut_share"] is not None:
            notes.append(
                f"Some joint is held back in {limiter['cut_share']:.0%} of "
                f"{limiter['command_ticks']} commands."
            )
        if (jump := smoothness["switch_jump"]) is not None:
            notes.append(
                f"Where a chunk takes over from another the command fades over "
                f"{1e3 * jump['p50']:.1f} mrad (gripper: mm) in the median, "
                f"{1e3 * jump['maximum']:.1f} at most."
            )
        text = table(head, rows) + f'<p class="muted">{escape(" ".join(notes))}</p>'
        for reason, count in limiter["refusals"].items():
            text += f'<p class="bad">{count} times not followed: {escape(reason)}</p>'
        return text

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


def _number(value: float | None, largest: float = 0.0) -> str:
    """Return three digits of a figure; 0 if it is next to nothing beside the largest one."""
    if value is None:
        return ""
    return "0" if abs(value) < _LEAST_SHARE * largest else f"{value:.3g}"
