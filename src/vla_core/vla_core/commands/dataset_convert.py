# SPDX-License-Identifier: MIT
"""Copy a dataset into a LeRobotDataset v3.0.

Reads LeRobotDataset v3.0, v2.1 and v2.0 and the HDF5 files of ACT, which need h5py. Damaged
episodes stop the copy; with --skip-bad they are named and left out. Videos are encoded anew.

  vla dataset convert out/data/old_v21 --output out/data/new
  vla dataset convert sim_transfer_cube --instruction 'hand over the cube' --output out/data/cube
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from vla_core.commands.dataset import open_dataset
from vla_core.dataset.conversion import (
    act_features,
    copy_act_episodes,
    copy_dataset,
    find_act_files,
    writable_features,
)
from vla_core.dataset.writer import EpisodeWriter
from vla_core.errors import DatasetError
from vla_core.training.progress import ProgressDisplay

_ACT_FPS = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the task's arguments."""
    parser.add_argument("source", type=Path, help="folder of a dataset, or of HDF5 episodes")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new dataset")
    parser.add_argument(
        "--images",
        choices=("h264", "av1", "png"),
        help="storage of the frames (default: as in the source; h264 for HDF5)",
    )
    parser.add_argument("--instruction", help="what the robot does; ACT's files do not say it")
    parser.add_argument("--fps", type=int, help="rate of ACT's files (default 50)")
    parser.add_argument("--bgr", action="store_true", help="ACT's images have blue first")
    parser.add_argument("--skip-bad", action="store_true", help="leave out and name bad episodes")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")


def run(args: argparse.Namespace) -> int:
    """Copy the dataset; return the exit status."""
    console = Console()
    storage = None if args.images is None else "image" if args.images == "png" else "video"
    codec = args.images if args.images in ("h264", "av1") else "h264"
    files = find_act_files(args.source)
    if files:
        if not args.instruction:
            raise DatasetError("the files of ACT have no instruction; give it by --instruction.")
        dataset, total = None, len(files)
        features, robot = act_features(files[0], storage or "video"), None
        fps = _ACT_FPS if args.fps is None else args.fps
    else:
        _refuse_unused(args)
        dataset = open_dataset(args.source, console, skip_bad=args.skip_bad)
        total, fps, robot = dataset.num_episodes, dataset.fps, dataset.robot_type
        features = writable_features(dataset, storage)
    with EpisodeWriter(
        args.output,
        fps=fps,
        features=features,
        robot_type=robot,
        codec=codec,
        overwrite=args.overwrite,
    ) as writer:
        if dataset is None:
            results = copy_act_episodes(
                files, writer, args.instruction, is_bgr=args.bgr, skip_bad=args.skip_bad
            )
        else:
            results = copy_dataset(dataset, writer, skip_bad=args.skip_bad)
        with ProgressDisplay(console, "copying", total, unit="episodes") as display:
            for problem in results:
                display.advance()
                if problem:
                    console.print(f"left out: {problem}")
        written = writer.num_episodes
    console.print(f"{written} episodes in {args.output}.")
    return 0


def _refuse_unused(args: argparse.Namespace) -> None:
    given = [f"--{name}" for name in ("instruction", "fps", "bgr") if getattr(args, name)]
    if given:
        raise DatasetError(
            f"{', '.join(given)}: only for ACT's HDF5 files, of which there are none in "
            f"'{args.source}'; a LeRobotDataset says it itself."
        )
