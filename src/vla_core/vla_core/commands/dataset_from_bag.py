# SPDX-License-Identifier: MIT
r"""Make a LeRobotDataset v3.0 of rosbag2 recordings, MCAP or SQLite, compressed or split.

The messages go through the robot contract and the very code of the policy node, one observation
per step of action.rate_hz; the column sample_age_s keeps how old each sample was. Drops and stalls
are reported by topic. An interrupted import is continued with --resume.

  vla dataset from-bag out/episodes --robot sim --output out/data/taught
  vla dataset from-bag day.mcap --robot ur5e --actions state --episodes gaps \
      --instruction 'pick up the cup' --output out/data/cups
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vla_core.dataset.bag_import import (
    AGES,
    EPISODE_MODES,
    BagImporter,
    age_feature,
    find_bags,
)
from vla_core.dataset.bag_observations import CLOCKS
from vla_core.dataset.bag_report import describe_topics, report_to_dict
from vla_core.dataset.bag_sources import COMMAND_ACTIONS
from vla_core.dataset.recording import Recording
from vla_core.dataset.writer import EpisodeWriter
from vla_core.errors import DatasetError
from vla_core.processing.contract import load_contract
from vla_core.processing.value_checks import quoted
from vla_core.training.progress import ProgressDisplay

_CAMERA_STORAGE = ("h264", "av1", "png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the task's arguments."""
    parser.add_argument("bags", metavar="BAG", type=Path, nargs="+", help="recording, or folder")
    parser.add_argument("--robot", required=True, help="contract: a shipped name, or a YAML file")
    parser.add_argument("--output", type=Path, required=True, help="folder of the dataset")
    parser.add_argument(
        "--actions",
        nargs="+",
        default=list(COMMAND_ACTIONS),
        metavar="SOURCE",
        help="what the demonstrator did: 'command', the contract's command topics (default); "
        "'state', where the joints are one step later; or topics, such as the leader arm's joint "
        "states, each with =PREFIX if its joints lack what the contract's begin with",
    )
    parser.add_argument("--instruction", help="what the robot is asked to do in all episodes")
    parser.add_argument("--instruction-topic", metavar="TOPIC", help="topic that says it")
    parser.add_argument(
        "--episodes",
        choices=EPISODE_MODES,
        help="one per bag (default), per stretch without a gap, or as --episode-topic says",
    )
    parser.add_argument(
        "--episode-topic",
        metavar="TOPIC",
        help="std_msgs/Bool, or a text such as vla_msgs/PolicyStatus's instruction that is not "
        "empty while an episode runs",
    )
    parser.add_argument(
        "--images", choices=_CAMERA_STORAGE, default="h264", help="storage (default h264)"
    )
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="received",
        help="stamp: for a recorder with another clock than the robot's, such as a simulation's",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out and name bad episodes")
    parser.add_argument(
        "--only-successes",
        action="store_true",
        help="leave out what was noted as failed",
    )
    parser.add_argument(
        "--min-frames", type=int, default=2, help="leave out shorter episodes (default 2)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted import")


def run(args: argparse.Namespace) -> int:
    """Import the recordings; return the exit status."""
    console = Console()
    contract = load_contract(args.robot)
    bags = find_bags(args.bags)
    episodes = args.episodes or ("topic" if args.episode_topic else "bag")
    reading = {
        "episodes": episodes,
        "min_frames": args.min_frames,
        "only_successes": args.only_successes,
        "actions": args.actions,
        "instruction": args.instruction,
        "instruction_topic": args.instruction_topic,
        "episode_topic": args.episode_topic,
        "clock": args.clock,
    }
    with EpisodeWriter.for_contract(
        args.output,
        contract,
        storage="image" if args.images == "png" else "video",
        codec="h264" if args.images == "png" else args.images,
        columns={AGES: age_feature(contract)},
        overwrite=args.overwrite,
        resume=args.resume,
        made_with={**reading, "contract": contract.to_dict()},
    ) as writer:
        _require_named(writer, bags)
        importer = BagImporter(writer, contract, skip_bad=args.skip_bad, **reading)
        rate_hz = contract.action.rate_hz
        num_ticks = sum(int(_duration_s(bag, args.skip_bad) * rate_hz) + 1 for bag in bags)
        with ProgressDisplay(console, "importing", num_ticks, unit="frames") as display:
            for bag in bags:
                importer.add(bag, display.advance)
        for line in describe_topics(importer.report):
            console.print(line)
        left_out = [episode for episode in importer.report.episodes if episode.left_out]
        for episode in left_out:
            task = f" '{episode.task}'" if episode.task else ""
            console.print(f"left out: {episode.bag}{task}: {episode.left_out}")
    path = args.output / "meta" / "import.json"
    path.write_text(json.dumps(report_to_dict(importer.report), indent=2) + "\n")
    console.print(
        f"{importer.report.num_written} episodes in {args.output}, {len(left_out)} left out; "
        f"details in {path}."
    )
    return 0


def _require_named(writer: EpisodeWriter, bags: Sequence[Path]) -> None:
    """Refuse to go on with an import of other recordings.

    Raises:
        DatasetError: Some of which episodes were imported are not named now.
    """
    imported = dict.fromkeys(facts["bag"] for facts in writer.staged_metadata())
    if others := [bag for bag in imported if bag not in {str(bag) for bag in bags}]:
        raise DatasetError(
            f"the interrupted import has episodes of {quoted(others)}; name them too, or discard "
            "it with --overwrite."
        )


def _duration_s(bag: Path, skip_bad: bool) -> float:
    """Return how long a recording is, before hours go into the first of many."""
    try:
        with Recording(bag) as recording:
            return recording.duration_s
    except DatasetError:
        if skip_bad:
            return 0.0
        raise
