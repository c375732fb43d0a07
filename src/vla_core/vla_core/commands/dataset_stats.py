# SPDX-License-Identifier: MIT
"""Show the statistics of states and actions, or of any column, value by value.

vla dataset stats out/data/pick
vla dataset stats out/data/taught --columns sample_age_s
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from vla_core.commands.dataset import open_dataset
from vla_core.dataset.format import ACTION, STATE
from vla_core.dataset.reader import EpisodeDataset
from vla_core.dataset.statistics import vector_statistics

_SHOWN = ("min", "q01", "q50", "q99", "max", "mean", "std")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the task's arguments."""
    parser.add_argument("dataset", type=Path, help="folder of the dataset")
    parser.add_argument(
        "--columns", nargs="+", default=[STATE, ACTION], help="which (default: state and action)"
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out and name bad episodes")


def run(args: argparse.Namespace) -> int:
    """Print a table per column; return the exit status."""
    console = Console()
    dataset = open_dataset(args.dataset, console, skip_bad=args.skip_bad)
    for key in args.columns:
        console.print(statistics_table(dataset, key))
    return 0


def statistics_table(dataset: EpisodeDataset, key: str) -> Table:
    """Return a table of a column's statistics, computed over all frames."""
    statistics = vector_statistics(dataset.column(key))
    names = dataset.features[key].names or [str(i) for i in range(len(statistics["mean"]))]
    table = Table(
        title=f"{key}, {statistics['count'][0]} frames",
        title_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("value", overflow="fold")
    for name in _SHOWN:
        table.add_column(name, justify="right", no_wrap=True)
    for row, name in enumerate(names):
        table.add_row(name, *(_in_eight(statistics[shown][row]) for shown in _SHOWN))
    return table


def _in_eight(value: float) -> str:
    """Return a number in at most eight characters: seven of them fit into a line of 80."""
    text = f"{value:.3g}"
    return text if len(text) <= 8 else f"{value:.1e}"
