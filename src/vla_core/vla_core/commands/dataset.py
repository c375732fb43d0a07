# SPDX-License-Identifier: MIT
"""Make datasets of recordings; `vla dataset TASK --help` explains a task.

vla dataset from-bag out/episodes --robot sim --output out/data/taught
"""

from __future__ import annotations

import argparse

from vla_core.commands import dataset_from_bag

_TASKS = {"from-bag": (dataset_from_bag, "make a dataset of rosbag2 recordings")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    for name, (module, summary) in _TASKS.items():
        task = tasks.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(task)


def run(args: argparse.Namespace) -> int:
    """Do the task; return the exit status."""
    return _TASKS[args.task][0].run(args)
