# SPDX-License-Identifier: MIT
"""Draw the three rates of Helix and the ages of what each tier works on, from a recorded run.

vla up helix record:=out/helix/bag      # Ctrl-C after a while
python benchmarks/helix_rates.py out/helix/bag out/helix/rates.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vla_core.dataset.recording import Recording
from vla_core.processing.messages import time_ns

TIERS = {
    "planner_node": ("latent_plan", "#7c3aed"),
    "policy_node": ("action_chunk", "#1d4ed8"),
    "command_node": ("command_node/status", "#ea580c"),
}
PERCENTILES = (50, 99)
_FEW = 3000


def main() -> None:
    """Read the bag, draw the figure, print the percentiles."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with Recording(Path(sys.argv[1])) as recording:
        messages = {
            node: [message for _, message in recording.messages(recording.topic(topic))]
            for node, (topic, _) in TIERS.items()
        }
    messages["policy_node"] = [m for m in messages["policy_node"] if m.horizon > 0]
    starts = {node: _starts_s(node, heard) for node, heard in messages.items()}
    zero = max(times[0] for times in starts.values())  # when all three were at work
    for node, times in starts.items():
        first = int(np.searchsorted(times, zero))
        messages[node], starts[node] = messages[node][first:], times[first:]
    figure = Figure(figsize=(9, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for node, (_, colour) in TIERS.items():
        _draw(upper, starts[node][1:] - zero, 1.0 / np.diff(starts[node]), node, colour, "Hz")
    figure.suptitle("Helix in three processes")
    upper.set(ylabel="rate [Hz]", yscale="log")
    for node, label, ages in _ages_s(messages):
        _draw(lower, starts[node] - zero, 1e3 * ages, label, TIERS[node][1], "ms")
    lower.set(xlabel="time [s]", ylabel="age of the observation [ms]")
    for axes in (upper, lower):
        axes.grid(color="#e5e7eb")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=7, frameon=False
        )
    path = Path(sys.argv[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    sys.stdout.write(f"{path}\n")


def _starts_s(node: str, heard: list[Any]) -> NDArray[np.float64]:
    """Return when each inference or tick began, in s."""
    if node == "command_node":
        return np.array([time_ns(m.header.stamp) * 1e-9 + m.tick_lateness for m in heard])
    return np.array([time_ns(m.inference_start_stamp) * 1e-9 for m in heard])


def _ages_s(messages: dict[str, list[Any]]) -> list[tuple[str, str, NDArray[np.float64]]]:
    """Return node, what it works on, and how old that was at each start, in s."""
    plans, chunks = messages["planner_node"], messages["policy_node"]

    def age(message: Any, stamp: Any) -> float:
        return (time_ns(message.inference_start_stamp) - time_ns(stamp)) * 1e-9

    return [
        (
            "planner_node",
            "frame at the planner",
            np.array([age(m, m.header.stamp) for m in plans]),
        ),
        ("policy_node", "plan at the policy", np.array([age(m, m.plan_stamp) for m in chunks])),
        (
            "command_node",
            "sequence at motor control",
            np.array([m.chunk_age for m in messages["command_node"]]),
        ),
    ]


def _draw(
    axes: Axes,
    times_s: NDArray[np.float64],
    values: NDArray[np.float64],
    label: str,
    colour: str,
    unit: str,
) -> None:
    values = np.asarray(values)
    shown = ", ".join(
        f"p{percentile} {value:.0f}"
        for percentile, value in zip(
            PERCENTILES, np.nanpercentile(values, PERCENTILES), strict=True
        )
    )
    sys.stdout.write(f"{label}: {shown} {unit}\n")
    # The points of the slow tiers are few and must not vanish below those of the fast one.
    size, order = (5, 3) if len(values) < _FEW else (1.5, 2)
    text = f"{label}: {shown} {unit}"
    axes.plot(times_s, values, ".", ms=size, zorder=order, color=colour, label=text)


if __name__ == "__main__":
    main()
