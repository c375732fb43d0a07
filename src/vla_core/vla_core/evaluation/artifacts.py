# SPDX-License-Identifier: MIT
"""Everything that a recorded run leaves behind: figures, pictures, film and report."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vla_core.evaluation.bag_statistics import BagStatistics, find_interruptions
from vla_core.evaluation.contact_sheet import draw_contact_sheet
from vla_core.evaluation.episodes import EpisodeResult, success_by_condition
from vla_core.evaluation.plots import draw_histogram, draw_joints
from vla_core.evaluation.recorded_run import RecordedRun
from vla_core.evaluation.report import GOALS, write_report
from vla_core.evaluation.video import write_video
from vla_core.processing.contract import RobotContract

MAX_DETAILED_EPISODES = 10
"""Episodes of a longer run that the film and the joint plots show; figures cover all."""


def describe_machine() -> dict[str, Any]:
    """Return what the timing of a run depends on, as JSON values."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line for line in lines if line.startswith("model name")).split(": ", 1)[1]
    except (OSError, StopIteration, IndexError):
        pass
    return {
        "processor": processor,
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def write_artifacts(
    folder: Path,
    *,
    bag: Path,
    contract: RobotContract,
    episodes: Sequence[EpisodeResult],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write summary.json, plots/, contact_sheet.png, demo.mp4 and report.html.

    Args:
        folder: Where to write.
        bag: Folder of the recording.
        contract: Contract that the run was made with.
        episodes: Results of the run, in order.
        facts: Further entries of the summary: 'checkpoint' and 'checkpoint_id', and where known
            'start_up', 'real_time_priority', 'rollout', 'problems' and 'is_interrupted'.

    Returns:
        The summary.

    Raises:
        DatasetError: The recording is incomplete.
    """
    run = RecordedRun.from_bag(bag, contract)
    statistics = BagStatistics.from_run(run)
    summary = {
        **facts,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": describe_machine(),
        "goals": GOALS,
        "success": {
            condition: rate.to_dict() for condition, rate in success_by_condition(episodes).items()
        },
        "episodes": [episode.to_dict() for episode in episodes],
        "timing": statistics.to_dict(),
        "interruptions_s": find_interruptions(run, episodes),
        "recording": {"duration_s": run.duration_s, "message_counts": run.message_counts},
    }
    text = json.dumps(summary, indent=2, allow_nan=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    detailed = episodes[:MAX_DETAILED_EPISODES]
    _write_plots(folder / "plots", run, statistics, contract, detailed)
    draw_contact_sheet(bag, run, contract, episodes, folder / "contact_sheet.png")
    write_video(bag, contract, detailed, folder / "demo.mp4")
    write_report(folder)
    return summary


def _write_plots(
    folder: Path,
    run: RecordedRun,
    statistics: BagStatistics,
    contract: RobotContract,
    episodes: Sequence[EpisodeResult],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.svg"):
        stale.unlink()
    reference = statistics.camera_age_s[contract.reference_camera]
    histograms = {
        "inference_latency": (statistics.inference_latency_s, None),
        "command_period": (statistics.command_period_s, GOALS["command_period_p99_s"]),
        f"age_of_the_{contract.reference_camera}_frame": (reference, None),
    }
    for name, (samples_s, limit_s) in histograms.items():
        if samples_s.size:
            limit = None if limit_s is None else 1e3 * limit_s
            svg = draw_histogram(
                1e3 * samples_s, label=f"{name.replace('_', ' ')} [ms]", limit=limit
            )
            (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    for episode in episodes:
        svg = draw_joints(run, contract, episode)
        (folder / f"episode_{episode.number:03d}.svg").write_text(svg, encoding="utf-8")
