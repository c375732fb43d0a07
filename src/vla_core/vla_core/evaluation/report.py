# SPDX-License-Identifier: MIT
"""One self-contained HTML page from summary.json and the pictures beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from vla_core.errors import DatasetError
from vla_core.evaluation.episodes import CONDITIONS, NORMAL
from vla_core.evaluation.html import (
    card,
    cards,
    figures,
    page,
    picture,
    section,
    table,
    tall,
    wide,
)
from vla_core.evaluation.metrics import intervals_overlap

GOALS = {
    "command_period_p99_s": 0.025,
    "camera_age_p95_s": 0.070,
    "rejected_trajectories": 0,
}
"""What a run is to stay within."""


def write_report(folder: Path) -> Path:
    """Render report.html from the summary.json, plots/*.svg and contact_sheet.png of a folder.

    Args:
        folder: Folder of a finished run.

    Returns:
        The page, `folder/report.html`.

    Raises:
        DatasetError: The folder has no readable summary.json.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DatasetError(f"{folder / 'summary.json'} cannot be read: {error}.") from error
    plots = {
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted((folder / "plots").glob("*.svg"))
    }
    contact_sheet = None
    if (folder / "contact_sheet.png").is_file():
        with Image.open(folder / "contact_sheet.png") as file:
            contact_sheet = file.convert("RGB")
    path = folder / "report.html"
    path.write_text(render_report(summary, plots, contact_sheet), encoding="utf-8")
    return path


def render_report(
    summary: Mapping[str, Any], plots: Mapping[str, str], contact_sheet: Image.Image | None = None
) -> str:
    """Render the page; it needs no other file and no network.

    Args:
        summary: Content of summary.json.
        plots: SVG figures by name; 'episode_<number>' are the joints of an episode.
        contact_sheet: Picture of the run.

    Returns:
        The page as HTML.
    """
    title = f"{summary['checkpoint']}: {len(summary['episodes'])} episodes over ROS 2"
    sections = [
        _header(title, summary),
        _cards(summary),
        section("Success", _success_table(summary) + _overlap(summary)),
        section("Episodes", tall(_episode_table(summary["episodes"]))),
    ]
    if contact_sheet is not None:
        sheet = wide(picture(contact_sheet, "a row of pictures for every episode"))
        sections.append(section("What the cameras saw", tall(sheet)))
    captions = _joint_captions(summary["episodes"])
    histograms = {
        name.replace("_", " ").capitalize(): svg
        for name, svg in plots.items()
        if name not in captions
    }
    timing = _timing_table(summary["timing"]) + _interruptions(summary["interruptions_s"])
    sections.append(section("Timing", timing + "<br>" + figures(histograms)))
    joints = {captions[name]: svg for name, svg in plots.items() if name in captions}
    shown = f"{len(joints)} of {len(captions)} episodes" if len(joints) < len(captions) else ""
    shown = f" Shown are the first {shown}, as in the film." if shown else ""
    note = f'<p class="muted">Measured joint positions and the commands behind them.{shown}</p>'
    sections.append(section("Joints", note + figures(joints)))
    if summary.get("replay"):
        sections.append(section("Replay", _replay(summary["replay"])))
    sections.append(section("Recording", _recording_table(summary["recording"])))
    return page(title, sections)


def _header(title: str, summary: Mapping[str, Any]) -> str:
    machine = summary["machine"]
    start_up = summary.get("start_up") or {}
    facts = [
        f"checkpoint {summary['checkpoint_id']}",
        summary["created"],
        f"{machine['cores']} cores, {machine['processor']}",
    ]
    if start_up.get("first_motion_s") is not None:
        facts.append(f"first motion {start_up['first_motion_s']:.1f} s after the start")
    priorities = summary.get("real_time_priority")
    if priorities:
        refused = [name for name, priority in priorities.items() if priority == 0]
        verdict = f"refused to {' and '.join(refused)}" if refused else "granted"
        facts.append(f"real-time priority {verdict}")
    text = f"<h1>{escape(title)}</h1>"
    text += f'<p class="muted">{escape("; ".join(facts))}</p>'
    if summary.get("is_interrupted"):
        text += "<p>The run was interrupted; the figures are of what was done until then.</p>"
    for problem in summary.get("problems", []):
        text += f'<p class="bad">{escape(problem)}</p>'
    return text


def _cards(summary: Mapping[str, Any]) -> str:
    timing = summary["timing"]
    period = timing["command_period_s"]
    ages = [figures for figures in timing["camera_age_s"].values() if figures]
    oldest = max(ages, key=lambda figures: figures["p95"], default=None)
    rejected, jump = timing["rejected_trajectories"], timing["largest_switch_jump"]
    found = [
        card(
            _milliseconds(period, "p99"),
            "99th percentile of the command period, "
            f"goal at most {1e3 * GOALS['command_period_p99_s']:.0f} ms",
            is_good=period is None or period["p99"] <= GOALS["command_period_p99_s"],
        ),
        card(
            _milliseconds(oldest, "p95"),
            "95th percentile of a frame's age when inference starts, "
            f"goal at most {1e3 * GOALS['camera_age_p95_s']:.0f} ms",
            is_good=oldest is None or oldest["p95"] <= GOALS["camera_age_p95_s"],
        ),
        card(_milliseconds(timing["inference_latency_s"], "p50"), "median inference latency"),
        card(
            str(rejected),
            f"trajectories rejected, {timing['accepted_trajectories']} accepted",
            is_good=rejected <= GOALS["rejected_trajectories"],
        ),
        card(
            "none" if jump is None else f"{1e3 * jump:.1f}",
            f"mrad (gripper: mm), largest jump from chunk to chunk in {timing['chunk_switches']} "
            "switches; the command fades over it",
        ),
    ]
    success = summary["success"].get(NORMAL)
    if success:
        bounds = f"{success['lower']:.0%} to {success['upper']:.0%}"
        rate = card(
            f"{success['successes']} of {success['trials']}",
            f"success; {success['confidence']:.0%} interval {bounds}",
        )
        found.insert(0, rate)
    return cards(found)


def _success_table(summary: Mapping[str, Any]) -> str:
    rows = [("over ROS 2", name, rate) for name, rate in summary["success"].items()]
    rollout = summary.get("rollout")
    if rollout:
        rows += [("gymnasium loop", name, rate) for name, rate in rollout["success"].items()]
    return table(
        ["condition", "#success", "#rate", "95% interval"],
        [
            [
                escape(f"{loop}, {CONDITIONS.get(name, name)}"),
                f"{rate['successes']} of {rate['trials']}",
                "" if rate["rate"] is None else f"{rate['rate']:.0%}",
                f"{rate['lower']:.0%} to {rate['upper']:.0%}",
            ]
            for loop, name, rate in rows
        ],
    )


def _overlap(summary: Mapping[str, Any]) -> str:
    """Say whether the two loops agree, when both have run."""
    rollout = summary.get("rollout")
    rates = [summary["success"].get(NORMAL), rollout and rollout["success"].get(NORMAL)]
    if not all(rates):
        return ""
    first, second = [(rate["lower"], rate["upper"]) for rate in rates if rate]
    if intervals_overlap(first, second):
        return "<p>The intervals of the two loops overlap: ROS 2 costs no visible success.</p>"
    return '<p class="bad">The intervals of the two loops do not overlap.</p>'


def _episode_table(episodes: Sequence[Mapping[str, Any]]) -> str:
    head = ["#", "#seed", "instruction", "outcome", "#time", "#lifted"]
    rows = [
        [
            str(episode["number"]),
            str(episode["seed"]),
            escape(episode["instruction"]),
            f'<span class="{"good" if episode["success"] else "bad"}">'
            f"{escape(episode['outcome'])}</span>",
            f"{episode['duration_s']:.1f} s",
            f"{100 * episode['lifted_m'].get(episode['target'], 0.0):.1f} cm",
        ]
        for episode in episodes
    ]
    if len({episode["condition"] for episode in episodes}) > 1:
        head.append("condition")
        for row, episode in zip(rows, episodes, strict=True):
            row.append(escape(CONDITIONS.get(episode["condition"], episode["condition"])))
    return table(head, rows)


def _timing_table(timing: Mapping[str, Any]) -> str:
    rows = [
        ("inference latency", timing["inference_latency_s"]),
        *(
            (f"age of the {camera} frame when inference starts", ages)
            for camera, ages in timing["camera_age_s"].items()
        ),
        ("age of the joint state when inference starts", timing["joint_state_age_s"]),
        ("command period", timing["command_period_s"]),
        ("interval between commands at the recorder", timing["arrival_period_s"]),
        ("delay of a command tick", timing["tick_lateness_s"]),
        ("age of the executed chunk's observation", timing["chunk_age_s"]),
    ]
    keys = ("p50", "p95", "p99", "maximum")
    distributions = table(
        ["", "#median", "#95 %", "#99 %", "#largest", "#samples"],
        [
            [
                escape(label),
                *(_milliseconds(figures, key) for key in keys),
                str(figures["count"]) if figures else "0",
            ]
            for label, figures in rows
        ],
    )
    speed = timing["largest_command_speed"]
    notes = ""
    if speed is not None:
        notes = f"No command moved a joint faster than {speed:.2f} rad/s (gripper: m/s). "
    notes += f"Limits changed the command in {timing['limited_ticks']} ticks."
    return distributions + f'<p class="muted">{escape(notes)}</p>' + _trajectories(timing)


def _trajectories(timing: Mapping[str, Any]) -> str:
    """Say what became of the trajectories that were published."""
    text = (
        f"Of {timing['published_trajectories']} trajectories published, the controller accepted "
        f"{timing['accepted_trajectories']} and rejected {timing['rejected_trajectories']}; "
        f"{timing['superseded_trajectories']} were superseded by a newer one before it looked."
    )
    if timing["last_rejection"]:
        text += f" Last rejection: {timing['last_rejection']}"
    return f'<p class="muted">{escape(text)}</p>'


def _interruptions(seconds: Mapping[str, float]) -> str:
    """Say why the arm stood still in the middle of episodes."""
    if not seconds:
        return '<p class="muted">The arm followed the policy throughout every episode.</p>'
    causes = "; ".join(f"{duration:.1f} s: {cause}" for cause, duration in seconds.items())
    return (
        '<p class="muted">In the middle of episodes the arm was not following the policy for '
        f"{escape(causes)}.</p>"
    )


def _replay(replay: Mapping[str, Any]) -> str:
    """Say what the policy would have done on this recording, and where the rest is."""
    error_mrad = 1e3 * replay["error_rad"]
    text = (
        f"Asked again at {replay['answered']} control ticks of this recording, the policy is "
        f"{error_mrad:.1f} mrad from what was commanded, on average over the whole chunk: "
    )
    return f'<p>{escape(text)}<a href="{escape(replay["page"])}">report of the replay</a></p>'


def _recording_table(recording: Mapping[str, Any]) -> str:
    duration_s = recording["duration_s"]
    return table(
        ["topic", "#messages", "#per second"],
        [
            [escape(topic), str(count), f"{count / duration_s:.1f}" if duration_s else ""]
            for topic, count in recording["message_counts"].items()
        ],
    )


def _joint_captions(episodes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {
        f"episode_{episode['number']:03d}": f"Episode {episode['number']}, "
        f"{episode['instruction']}: {episode['outcome']}"
        for episode in episodes
    }


def _milliseconds(distribution: Mapping[str, Any] | None, key: str) -> str:
    return f"{1e3 * distribution[key]:.1f} ms" if distribution else "none"
