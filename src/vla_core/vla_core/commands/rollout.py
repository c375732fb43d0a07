# SPDX-License-Identifier: MIT
"""Measure a policy's success in the simulation, without ROS and without real time.

Every episode is a scene that training never saw. With --ablate the same scenes are run again with
something else named, another colour, which then counts, and with black images, where nothing
should succeed. Episodes are written as they end; --resume goes on with an interrupted run.

With --all every checkpoint that ships is run on the task that it was trained on, and table.md
compares them.

  vla rollout --episodes 50 --ablate --output out/rollout
  vla rollout --all --episodes 100 --output out/policies
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_core.sim.tasks import TASKS

if TYPE_CHECKING:
    from rich.console import Console

    from vla_core.evaluation.episodes import EpisodeResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--checkpoint", default="groot", help="shipped name, folder, or hf:owner/name"
    )
    which.add_argument("--all", action="store_true", help="every shipped checkpoint, one by one")
    parser.add_argument(
        "--task", choices=list(TASKS), help="default: the one that the checkpoint was trained on"
    )
    parser.add_argument(
        "--target",
        help="what all scenes are about, such as red; default: what the scene's seed draws, or "
        "the one that the checkpoint was trained on",
    )
    parser.add_argument("--episodes", type=int, default=50, help="scenes (default 50)")
    parser.add_argument(
        "--first-seed", type=int, default=100_000, help="seed of the first scene (default 100000)"
    )
    parser.add_argument(
        "--actions-per-inference",
        type=int,
        default=8,
        metavar="N",
        help="actions of a chunk that are executed before the next inference (default 8)",
    )
    parser.add_argument(
        "--ablate", action="store_true", help="also name another target, and blacken the images"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("out/rollout"),
        help="folder of the results; with --all it gets one for each checkpoint",
    )


def run(args: argparse.Namespace) -> int:
    """Run the episodes; return the exit status.

    Raises:
        ConfigError: The seeds were seen in training, or a setting is out of range.
        CheckpointError: The checkpoint is missing or damaged.
    """
    from rich.console import Console

    from vla_core.evaluation.policy_table import PolicyFigures, policy_markdown, policy_table
    from vla_core.inference.checkpoint_files import shipped_checkpoints

    console = Console(highlight=False)
    if not args.all:
        _roll_out(args, args.checkpoint, args.output, console)
        return 0
    rows = []
    for checkpoint in shipped_checkpoints():
        console.print(f"\n[bold]{checkpoint}[/bold]")
        rows.append(
            PolicyFigures.of(*_roll_out(args, checkpoint, args.output / checkpoint, console))
        )
        (args.output / "table.md").write_text(policy_markdown(rows), encoding="utf-8")
    console.print()
    console.print(policy_table(rows))
    console.print(f"table in {args.output / 'table.md'}")
    return 0


def _roll_out(
    args: argparse.Namespace, checkpoint: str, output: Path, console: Console
) -> tuple[dict[str, Any], list[EpisodeResult]]:
    """Run the episodes of one checkpoint; return its settings and its results."""
    from vla_core.evaluation.console import describe_episode, success_table
    from vla_core.evaluation.episodes import CONDITIONS, NORMAL, append_result, read_results
    from vla_core.evaluation.rollout import (
        plan_episodes,
        run_rollout,
        summarize_rollout,
        trained_target,
        trained_task,
    )
    from vla_core.evaluation.seeds import held_out_seeds
    from vla_core.inference.policy import Policy
    from vla_core.inference.trained_instructions import hint_at_instructions

    seeds = held_out_seeds(args.first_seed, args.episodes)
    conditions = tuple(CONDITIONS) if args.ablate else (NORMAL,)
    task = args.task or trained_task(checkpoint)
    target = args.target or trained_target(checkpoint)
    plans = plan_episodes(seeds, conditions, target)
    settings = {
        "checkpoint": checkpoint,
        "task": task,
        "target": target,
        "first_seed": args.first_seed,
        "scenes": args.episodes,
        "actions_per_inference": args.actions_per_inference,
    }
    policy = Policy.from_checkpoint(checkpoint)
    checkpoint_id = policy.checkpoint_id
    output.mkdir(parents=True, exist_ok=True)
    lines, figures = output / "episodes.jsonl", output / "rollout.json"
    if args.resume:
        _check_resumable(figures, checkpoint_id, settings)
    else:
        lines.unlink(missing_ok=True)
    _write(figures, summarize_rollout(checkpoint_id, [], settings))
    known = {(r.number, r.seed, r.condition): r for r in read_results(lines)}
    done = [plan for plan in plans if (plan.number, plan.seed, plan.condition) in known]
    results = [known[plan.number, plan.seed, plan.condition] for plan in done]
    if results:
        console.print(f"{len(results)} of {len(plans)} episodes are done already.")
    rest = [plan for plan in plans if plan not in done]
    hint = ""
    try:
        for result in run_rollout(
            checkpoint,
            rest,
            task=task,
            actions_per_inference=args.actions_per_inference,
            workers=args.workers,
        ):
            append_result(lines, result)
            results.append(result)
            console.print(describe_episode(result, len(plans)), soft_wrap=True)
            if result.condition == NORMAL and not hint:
                hint = hint_at_instructions(result.instruction, policy.instructions)
                if hint:
                    console.print(hint, style="yellow", markup=False, soft_wrap=True)
    finally:
        _write(figures, summarize_rollout(checkpoint_id, results, settings))
        if results:
            console.print()
            console.print(success_table(results))
            console.print(f"figures in {figures}")
    return settings, results


def _check_resumable(figures: Path, checkpoint_id: str, settings: dict[str, Any]) -> None:
    """Refuse to mix the episodes of two policies or tasks."""
    from vla_core.errors import ConfigError

    if not figures.exists():
        return
    earlier = json.loads(figures.read_text(encoding="utf-8"))
    keys = ("task", "target", "actions_per_inference")
    before = {"checkpoint": earlier["checkpoint_id"]} | {
        k: earlier["settings"].get(k) for k in keys
    }
    now = {"checkpoint": checkpoint_id} | {k: settings[k] for k in keys}
    if before != now:
        raise ConfigError(
            f"{figures} is of {before}, not of {now}; choose another --output, or start over "
            "without --resume."
        )


def _write(path: Path, figures: dict[str, Any]) -> None:
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
