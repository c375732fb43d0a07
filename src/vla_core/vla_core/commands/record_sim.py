# SPDX-License-Identifier: MIT
"""Record demonstrations of the scripted expert in the simulation.

The episodes are written as a LeRobotDataset v3.0. Failed demonstrations are counted and left out.
An interrupted recording is continued with --resume.

  vla record-sim --task pick --episodes 1500
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_core.sim.tasks import DEFAULT_TASK, TASKS

SEED_LIMIT = 50_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    tasks = "; ".join(f"{task.name}: {task.description}" for task in TASKS.values())
    parser.add_argument(
        "--task", choices=list(TASKS), default=DEFAULT_TASK, help=f"{tasks} (default %(default)s)"
    )
    parser.add_argument("--episodes", type=int, default=1500, help="scenes to play (default 1500)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first scene")
    parser.add_argument(
        "--output", type=Path, help="folder of the dataset (default out/data/<task>)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted recording")


def run(args: argparse.Namespace) -> int:
    """Record; return the exit status."""
    from rich.console import Console

    from vla_core.dataset.writer import EpisodeWriter
    from vla_core.errors import ConfigError
    from vla_core.processing.contract import load_contract
    from vla_core.sim.recording import ExpertRecorder
    from vla_core.training.progress import ProgressDisplay

    last = args.first_seed + args.episodes
    if args.episodes < 1 or not 0 <= args.first_seed < last <= SEED_LIMIT:
        raise ConfigError(
            f"seeds {args.first_seed} to {last - 1} were asked for; demonstrations take seeds "
            f"from 0 to {SEED_LIMIT - 1}, so that evaluation can use the ones above."
        )
    console = Console()
    task = TASKS[args.task]
    output = args.output or task.dataset
    recorder = ExpertRecorder(task.name)
    failed = 0
    contract = load_contract(task.contract)
    with EpisodeWriter.for_contract(
        output,
        contract,
        overwrite=args.overwrite,
        resume=args.resume,
        made_with={"task": task.name, "first_seed": args.first_seed},
    ) as writer:
        seeds = range(writer.last_metadata.get("seed", args.first_seed - 1) + 1, last)
        with ProgressDisplay(console, "recording", len(seeds), unit="episodes") as display:
            for seed in seeds:
                episode = recorder.record(seed)
                display.advance()
                if not episode.success:
                    failed += 1
                    continue
                writer.add_episode(
                    images=episode.images,
                    state=episode.state,
                    actions=episode.actions,
                    task=episode.instruction,
                    seed=seed,
                    start=episode.start,
                    sim_task=task.name,
                )
        written = writer.num_episodes
    recorder.close()
    console.print(f"{written} episodes in {output}; {failed} failed demonstrations left out.")
    return 0
