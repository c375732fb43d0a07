# SPDX-License-Identifier: MIT
"""Draw a dataset: histograms of its values with their 1 % and 99 % quantiles, and thumbnails.

vla dataset plot out/data/pick --output out/plots/pick
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from vla_core.commands.dataset import open_dataset
from vla_core.dataset.format import ACTION, STATE
from vla_core.evaluation.dataset_plots import draw_thumbnails, draw_value_histograms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the task's arguments."""
    parser.add_argument("dataset", type=Path, help="folder of the dataset")
    parser.add_argument("--output", type=Path, required=True, help="folder of the pictures")
    parser.add_argument(
        "--columns", nargs="+", default=[STATE, ACTION], help="which (default: state and action)"
    )
    parser.add_argument(
        "--episodes", type=int, default=12, help="thumbnails of so many episodes (default 12)"
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out and name bad episodes")


def run(args: argparse.Namespace) -> int:
    """Write the pictures; return 1 if an episode could not be drawn."""
    console = Console()
    dataset = open_dataset(args.dataset, console, skip_bad=args.skip_bad)
    args.output.mkdir(parents=True, exist_ok=True)
    for key in args.columns:
        path = args.output / f"{key}.png"
        draw_value_histograms(dataset, key).savefig(path, dpi=120)
        console.print(str(path), soft_wrap=True)
    count = min(args.episodes, dataset.num_episodes)
    chosen = np.linspace(0, dataset.num_episodes - 1, count).round().astype(int).tolist()
    sheet, problems = draw_thumbnails(dataset, chosen)
    sheet.save(args.output / "episodes.png")
    console.print(str(args.output / "episodes.png"), soft_wrap=True)
    if problems:
        console.print(f"damaged: {problems}", soft_wrap=True)
    return 1 if problems else 0
