# SPDX-License-Identifier: MIT
"""The summary of a replay for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vla_core.evaluation.replay.action_units import SMALL_UNITS
from vla_core.evaluation.replay.agreement import agreement_rows, agreement_text, agrees
from vla_core.evaluation.replay.comparison import BETTER, WORSE, format_interval


def summarize(metrics: Mapping[str, Any]) -> RenderableType:
    """Return the figures that matter most."""
    parts: list[RenderableType] = [_ticks(metrics), _joint_table(metrics), *_lines(metrics)]
    if metrics["sensitivity"] is not None:
        parts += [Text(), _sensitivity_table(metrics["sensitivity"])]
    if metrics.get("online"):
        parts += [Text(), *_online(metrics["online"])]
    return Group(*parts)


def describe_comparison(comparison: Mapping[str, Any]) -> RenderableType:
    """Return the difference of two policies with its interval."""
    table = _table("second against first", "first", "second", "difference", "95% interval", "")
    for name in ("policy", *SMALL_UNITS):
        if name not in comparison:
            continue
        part = comparison[name]
        scale, unit = SMALL_UNITS.get(name, (1.0, "policy's space"))
        colour = {BETTER: "green", WORSE: "bold red"}.get(part["verdict"], "yellow")
        table.add_row(
            f"mean error, {unit}",
            f"{scale * part['first_mae']:.4g}",
            f"{scale * part['second_mae']:.4g}",
            f"{scale * part['difference']:+.3g}",
            format_interval(part, scale),
            Text(part["verdict"], style=colour),
        )
    return table


def format_error(value: float | None, unit: str) -> str:
    """Return an error with its unit, in thousandths."""
    if value is None:
        return "none"
    scale, name = SMALL_UNITS[unit]
    return f"{scale * value:.1f} {name}"


def format_cuts(joint: Mapping[str, Any]) -> list[str]:
    """Return by how much limits hold a joint back: on average, and at most."""
    return [format_error(joint[key], joint["unit"]) for key in ("mean_cut", "largest_cut")]


def held_back_most(limiter: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return the joint that limits hold back most often, and its figures; None without one."""
    joints = {name: joint for name, joint in limiter["joints"].items() if joint["cut_share"]}
    if not joints:
        return None
    name = max(joints, key=lambda joint: joints[joint]["cut_share"])
    return name, joints[name]


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left")
    return table


def _ticks(metrics: Mapping[str, Any]) -> Text:
    ticks = metrics["ticks"]
    rate = metrics["robot"]["rate_hz"]
    text = Text(f"{ticks['answered']} control ticks at {rate:g} Hz answered", style="bold")
    if metrics.get("online"):
        asked = ticks["total"] - ticks["outside"]
        text = Text(f"{ticks['answered']} chunks in {asked} control ticks", style="bold")
    text.append(f", {ticks['compared']} compared with the recording", style="default")
    if ticks["gap"]:
        text.append(f", {ticks['gap']} without an observation: ", style="yellow")
        causes = ", ".join(f"{name} {count}" for name, count in ticks["gaps"].items())
        text.append(causes, style="yellow")
    return text


def _joint_table(metrics: Mapping[str, Any]) -> Table:
    table = _table("error", "mean", "rms", "largest", "first step")
    for name, joint in metrics["error"]["joints"].items():
        unit, first = joint["unit"], joint["first_step"]
        table.add_row(
            name,
            *(format_error(joint.get(key), unit) for key in ("mae", "rmse", "max")),
            format_error(first and first["mae"], unit),
        )
    for unit in SMALL_UNITS:
        total = metrics["error"]["total"].get(unit)
        if total:
            first = metrics["error"]["first_step"][unit]
            table.add_row(
                Text(f"all in {unit}", style="bold"),
                *(format_error(total[key], unit) for key in ("mae", "rmse", "max")),
                format_error(first and first["mae"], unit),
            )
    return table


def _lines(metrics: Mapping[str, Any]) -> list[Text]:
    lines = []
    horizon = metrics["error"]["over_horizon"]
    steps = [step for step in horizon["rad"] or () if step is not None] if "rad" in horizon else []
    if steps:
        lines.append(
            f"over the horizon: {format_error(steps[0], 'rad')} at {horizon['time_s'][0]:.2f} s, "
            f"{format_error(steps[-1], 'rad')} at {horizon['time_s'][len(steps) - 1]:.2f} s"
        )
    if (gripper := metrics["gripper"]) is not None:
        lines.append(
            f"gripper agrees {gripper['agreement']:.1%} of the time "
            f"({gripper['by_chance']:.1%} if it never moved)"
        )
    if (direction := metrics["direction"]) is not None:
        lines.append(f"direction of motion: cosine {direction['p50']:.3f} (median)")
    jump, limiter = metrics["smoothness"]["switch_jump"], metrics["limiter"]
    if jump is not None:
        lines.append(
            f"largest jump of a joint between two chunks: {1e3 * jump['p50']:.1f} mrad (median), "
            f"{1e3 * jump['maximum']:.1f} mrad (most); mm if it is a gripper's"
        )
    if (held := held_back_most(limiter)) is not None:
        name, joint = held
        mean, most = format_cuts(joint)
        lines.append(
            f"limits hold back {limiter['cut_share']:.0%} of the commands, most often {name}: "
            f"{mean} on average, {most} at most"
        )
    elif limiter["command_ticks"]:
        lines.append("limits hold back no command")
    for reason, count in limiter["refusals"].items():
        lines.append(f"not followed, {count} times: {reason}")
    latency = metrics["timing"]["latency_s"]
    lines.append(
        f"inference {1e3 * latency['p50']:.0f} ms (median), {1e3 * latency['p95']:.0f} ms (95 %), "
        f"{1e3 * latency['p99']:.0f} ms (99 %)"
    )
    return [Text(line) for line in lines]


def _online(online: Mapping[str, Any]) -> list[RenderableType]:
    style = "green" if agrees(online) else "bold red"
    parts: list[RenderableType] = [Text(agreement_text(online), style=style)]
    parts += [Text(f"waited {count} times: {reason}") for reason, count in online["waits"].items()]
    if rows := agreement_rows(online):
        table = _table("over ROS and without", "online", "offline", "difference")
        for row in rows:
            table.add_row(*row)
        parts.append(table)
    return parts


def _sensitivity_table(sensitivity: Mapping[str, Any]) -> Table:
    table = _table(f"does it look? ({sensitivity['count']} checks)", "change", "error", "")
    table.add_row(
        "nothing spoilt, another seed",
        f"{sensitivity['change_by_chance']:.3f}",
        f"{sensitivity['error']:.3f}",
        "",
    )
    for name, check in sensitivity["checks"].items():
        verdict = ("reacts", "green") if check["reacts"] else ("does not look", "bold red")
        table.add_row(
            name, f"{check['change']:.3f}", f"{check['error']:.3f}", Text(verdict[0], verdict[1])
        )
    return table
