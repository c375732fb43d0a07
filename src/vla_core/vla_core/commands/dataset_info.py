# SPDX-License-Identifier: MIT
"""Show what a dataset holds; --check decodes every frame and names damaged episodes.

Ends with status 1 if an episode is damaged.

  vla dataset info out/data/pick --check
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from vla_core.dataset.format import ACTION, IMAGE_PREFIX, STATE
from vla_core.dataset.reader import EpisodeDataset
from vla_core.training.progress import ProgressDisplay

_SHOWN_TASKS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the task's arguments."""
    parser.add_argument("dataset", type=Path, help="folder of the dataset")
    parser.add_argument("--check", action="store_true", help="decode every frame")


def run(args: argparse.Namespace) -> int:
    """Print the summary; return 1 if an episode is damaged."""
    console = Console()
    dataset = EpisodeDataset(args.dataset, skip_damaged=True)
    damaged = dict(dataset.skipped)
    if args.check:
        with ProgressDisplay(
            console, "checking", dataset.num_episodes, unit="episodes"
        ) as display:
            for index, problem in dataset.find_damaged():
                display.advance()
                if problem:
                    damaged[dataset.episode_numbers[index]] = problem
    console.print(summary(dataset))
    for number, problem in sorted(damaged.items()):
        console.print(f"damaged: episode {number}: {problem}", soft_wrap=True)
    if damaged:
        console.print(
            "Leave them out with: vla dataset convert SOURCE --output NEW --skip-bad",
            soft_wrap=True,
        )
    return 1 if damaged else 0


def summary(dataset: EpisodeDataset) -> Table:
    """Return a table of what a dataset holds."""
    table = Table(show_header=False, title=str(dataset.root), title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    lengths = np.array(dataset.episode_lengths or [0])
    size = sum(path.stat().st_size for path in dataset.root.rglob("*") if path.is_file())
    table.add_row("format", f"LeRobotDataset {dataset.version}, {size / 2**20:.1f} MiB")
    table.add_row("robot", f"{dataset.robot_type or 'unknown'}, {dataset.fps:g} frames per second")
    minutes = dataset.num_frames / dataset.fps / 60
    table.add_row(
        "episodes", f"{dataset.num_episodes}, {dataset.num_frames} frames, {minutes:.1f} min"
    )
    table.add_row(
        "length", f"{lengths.min()} to {lengths.max()} frames, median {np.median(lengths):g}"
    )
    for name in dataset.camera_names:
        feature = dataset.features[f"{IMAGE_PREFIX}{name}"]
        height, width = feature.shape[:2]
        codec = f" ({feature.info['video.codec']})" if "video.codec" in feature.info else ""
        table.add_row(f"camera {name}", f"{width}x{height}, {feature.dtype}{codec}")
    for key in (STATE, ACTION):
        feature = dataset.features[key]
        table.add_row(key, ", ".join(feature.names or [f"{feature.shape[0]} values"]))
    counts = Counter(dataset.tasks).most_common()
    for task, count in counts[:_SHOWN_TASKS]:
        table.add_row("task", f"{task} ({count} of {dataset.num_episodes})")
    if len(counts) > _SHOWN_TASKS:
        table.add_row("", f"and {len(counts) - _SHOWN_TASKS} more")
    return table
