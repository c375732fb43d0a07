# SPDX-License-Identifier: MIT
"""Make, convert and look at datasets; `vla dataset TASK --help` explains a task.

vla dataset from-bag out/episodes --robot sim --output out/data/taught
vla dataset info out/data/taught --check
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_core.cli import read_docstring

if TYPE_CHECKING:
    from rich.console import Console

    from vla_core.dataset.reader import EpisodeDataset

TASKS = ("from-bag", "convert", "info", "stats", "plot")


class _TaskParser(argparse.ArgumentParser):
    """Parser of one task, whose module is imported when the task is chosen.

    Each task needs other optional packages.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Declare the task's arguments, then parse them."""
        task = self.prog.rpartition(" ")[2]
        importlib.import_module(_module_name(task)).add_arguments(self)
        return super().parse_known_args(args, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    tasks = parser.add_subparsers(
        dest="task", metavar="TASK", required=True, parser_class=_TaskParser
    )
    for name in TASKS:
        text = read_docstring(_module_name(name))
        tasks.add_parser(
            name,
            help=text.partition("\n")[0].replace("%", "%%"),  # A format string of argparse.
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )


def run(args: argparse.Namespace) -> int:
    """Do the task; return the exit status."""
    return int(importlib.import_module(_module_name(args.task)).run(args))


def _module_name(task: str) -> str:
    return f"vla_core.commands.dataset_{task.replace('-', '_')}"


def open_dataset(path: Path, console: Console, *, skip_bad: bool) -> EpisodeDataset:
    """Open a dataset and name the episodes that are left out.

    Raises:
        DatasetError: It is damaged, and its damaged episodes are not to be left out.
    """
    from vla_core.dataset.reader import EpisodeDataset

    dataset = EpisodeDataset(path, skip_damaged=skip_bad)
    for number, problem in dataset.skipped.items():
        console.print(f"left out: episode {number}: {problem}", soft_wrap=True)
    return dataset
