# SPDX-License-Identifier: MIT
"""Evaluate a policy on recordings, without a robot and without ROS.

At every control tick of a rosbag2 recording the policy answers what the robot saw, through the
code of the policy node, and is compared with what the demonstrator did. Leaves metrics.json,
report.html and, for Foxglove, an MCAP file with prediction and recording side by side.

  vla replay out/demo/bag --checkpoint groot
  vla replay --bags 'fleet/*.mcap' --ray local --resume
  vla replay out/demo/bag --compare out/train/old/policy out/train/new/policy --gate gate.yaml
  vla up replay bag:=out/demo/bag checkpoint:=groot  # the same over ROS, in real time

The exit status is 1 where a limit of the gate is broken, 2 where a recording cannot be read or the
gate names a figure that does not exist.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from vla_core.evaluation.replay.bag_result import BagResult
    from vla_core.evaluation.replay.replay_process import ReplayProcess
    from vla_core.evaluation.replay.runner import Failure, ReplayJob

EXIT_GATE = 1
EXIT_FAILED = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("bag", nargs="*", type=Path, help="rosbag2 folder, or an .mcap or .db3 file")
    add("--bags", metavar="GLOB", help="more recordings, such as 'fleet/*.mcap'")
    add("--checkpoint", help="shipped name, folder, or hf:owner/name (default groot)")
    add(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="two checkpoints on the same recordings: is B better or worse than A?",
    )
    add(
        "--answers",
        type=Path,
        metavar="RUN",
        help="recording of what policy_node and command_node said while BAG was played: judge "
        "that, as `vla up replay` does at its end",
    )
    add("--gate", type=Path, metavar="YAML", help="limits that the figures must keep")
    add("--contract", help="robot contract, name or path (default: the policy's own)")
    add(
        "--actions",
        nargs="+",
        default=["command"],
        metavar="SOURCE",
        help="what the demonstrator did: 'command' (the contract's topics, default), 'state' (the "
        "measured joints a step later), or topics, each with =PREFIX if its joints lack one",
    )
    add("--instruction", metavar="TEXT", help="default: what the recording says")
    add("--instruction-topic", metavar="TOPIC", help="topic with the instruction")
    add("--episode-topic", metavar="TOPIC", help="topic that says when an episode runs")
    add("--clock", default="received", help="received (default), or stamp: see docs/replay.md")
    add("--lenient", action="store_true", help="a broken message is a gap, not an error")
    add("--seed", type=int, default=0, help="of the policy's sampler (default 0)")
    add(
        "--probe-every",
        type=int,
        default=10,
        metavar="N",
        help="control ticks between two checks with spoilt inputs, 0 for none (default 10)",
    )
    add("--other-instruction", metavar="TEXT", help="what the swapped instruction is")
    add("--worst", type=int, default=6, metavar="N", help="worst moments to show (default 6)")
    add("--max-ticks", type=int, default=0, metavar="N", help="of each recording; 0: all")
    add("--ray", metavar="ADDRESS", help="spread over a Ray cluster; 'local': this machine")
    add("--resume", action="store_true", help="take the results of an interrupted, equal run")
    add("--device", default="cpu", help="cpu (default), cuda or auto")
    add("--threads", type=int, default=1, help="threads of torch (default 1)")
    add(
        "--one-process",
        action="store_true",
        help="read and infer in turn, not side by side on two cores: slower, the same figures",
    )
    add("--no-mcap", action="store_true", help="write no MCAP file")
    add("--rerun", action="store_true", help="also write a file for the Rerun viewer")
    add("--output", type=Path, default=Path("out/replay"), help="folder of the results")


def run(args: argparse.Namespace) -> int:
    """Replay the recordings; return the exit status.

    Raises:
        ConfigError: No recording is named, a setting is out of range, or the gate names a figure
            that does not exist.
        DatasetError: The only recording cannot be read.
        CheckpointError: The checkpoint is missing or damaged.
    """
    from contextlib import ExitStack

    from vla_core.evaluation.replay.replay_process import ReplayProcess, can_replay_beside

    bags = find_bags(args.bag, args.bags)
    with ExitStack() as stack:
        process = None
        if can_replay_beside() and not (args.one_process or args.ray or args.answers):
            process = stack.enter_context(ReplayProcess())
        return _run(args, bags, process)


def _run(args: argparse.Namespace, bags: Sequence[Path], process: ReplayProcess | None) -> int:
    from dataclasses import replace

    from rich.console import Console

    from vla_core.errors import ConfigError
    from vla_core.evaluation.replay.comparison import compare_policies
    from vla_core.evaluation.replay.console import describe_comparison, summarize
    from vla_core.evaluation.replay.gate import find_faults, load_gate
    from vla_core.evaluation.replay.output import describe_run, write_outputs
    from vla_core.processing.value_checks import quoted

    console = Console(highlight=False)
    if args.answers is not None:
        given = [name for name in ("compare", "ray", "resume", "max_ticks") if getattr(args, name)]
        if len(bags) != 1 or given:
            raise ConfigError(
                f"--answers takes the one recording that was played, got {len(bags)}, and neither "
                f"--compare, --ray, --resume nor --max-ticks, got {quoted(given)}."
            )
    if args.compare and args.checkpoint:
        raise ConfigError("--compare names both checkpoints; leave --checkpoint out.")
    limits = None if args.gate is None else load_gate(args.gate)
    job = _job(args)
    first_metrics = comparison = None
    first_failures: list[Failure] = []
    if args.compare:
        first_job = replace(job, checkpoint=args.compare[0], folder=args.output / "first")
        job = replace(job, checkpoint=args.compare[1])
        first, first_failures = _replay(first_job, bags, args, console, process)
        first_metrics = describe_run(first_job, first)
    if args.answers is None:
        results, failures = _replay(job, bags, args, console, process)
        named = {failure.bag for failure in failures}
        failures += [failure for failure in first_failures if failure.bag not in named]
        metrics = describe_run(job, results, failures)
    else:
        result, metrics = _judge(job, bags[0], args.answers, console)
        results, failures = [result], []
    if first_metrics is not None:
        known = [{result.facts["bag"] for result in each} for each in (first, results)]
        both = known[0] & known[1]
        comparison = compare_policies(
            [result for result in first if result.facts["bag"] in both],
            [result for result in results if result.facts["bag"] in both],
            job.open_policy().contract,
        )
        metrics["comparison"] = comparison
        write_outputs(first_job, first, first_metrics)
    faults: list[str] | None = None
    gate_error: ConfigError | None = None
    if limits is not None:
        try:
            faults = find_faults(limits, metrics)
        except ConfigError as error:  # The replay may have taken hours: its results come first.
            gate_error = error
    write_outputs(job, results, metrics, first=first_metrics, faults=faults)
    console.print(summarize(metrics))
    if comparison is not None:
        console.print()
        console.print(describe_comparison(comparison))
    console.print()
    for name, what in _outputs(job):
        console.print(f"  {args.output / name}  {what}", soft_wrap=True)
    for failure in failures:
        console.print(failure.reason, style="red", markup=False, soft_wrap=True)
    for fault in faults or ():
        console.print(f"gate: {fault}", style="bold red", markup=False, soft_wrap=True)
    if limits is not None and faults == []:
        console.print(f"gate: all {len(limits)} limits are kept", style="green")
    if gate_error is not None:
        raise gate_error
    if failures:
        return EXIT_FAILED
    return EXIT_GATE if faults else 0


def find_bags(named: Sequence[Path], pattern: str | None) -> list[Path]:
    """Return the recordings that are named and those that a pattern finds, each once.

    Raises:
        ConfigError: There is none, or not one that is named.
    """
    import glob

    from vla_core.errors import ConfigError
    from vla_core.processing.value_checks import quoted

    found = sorted(Path(name) for name in glob.glob(pattern, recursive=True)) if pattern else []
    bags = list(dict.fromkeys([*named, *found]))
    if not bags:
        asked = f"--bags '{pattern}' matches nothing" if pattern else "no recording is named"
        raise ConfigError(f"{asked}; give rosbag2 folders, .mcap or .db3 files.")
    if missing := [str(bag) for bag in bags if not bag.exists()]:
        raise ConfigError(f"there is no recording {quoted(missing)}.")
    return bags


def _job(args: argparse.Namespace) -> ReplayJob:
    from vla_core.evaluation.replay.runner import ReplayJob
    from vla_core.evaluation.replay.settings import ReplaySettings

    return ReplayJob(
        checkpoint=args.checkpoint or "groot",
        settings=ReplaySettings(
            contract=args.contract,
            actions=tuple(args.actions),
            instruction=args.instruction,
            instruction_topic=args.instruction_topic,
            episode_topic=args.episode_topic,
            clock=args.clock,
            is_strict=not args.lenient,
            seed=args.seed,
            probe_every=args.probe_every,
            other_instruction=args.other_instruction,
            num_worst=args.worst,
            max_ticks=args.max_ticks,
        ),
        folder=args.output,
        device=args.device,
        num_threads=args.threads,
        writes_mcap=not args.no_mcap,
        writes_rerun=args.rerun,
    )


def _replay(
    job: ReplayJob,
    bags: Sequence[Path],
    args: argparse.Namespace,
    console: Console,
    process: ReplayProcess | None,
) -> tuple[list[BagResult], list[Failure]]:
    """Replay all recordings; results come in the order of the recordings.

    Raises:
        DatasetError: None of them can be read.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from vla_core.errors import DatasetError
    from vla_core.evaluation.replay.bag_result import BagResult
    from vla_core.evaluation.replay.runner import replay_bags
    from vla_core.inference.trained_instructions import hint_at_instructions

    if args.instruction:
        hint = hint_at_instructions(args.instruction, job.open_policy().instructions)
        if hint:
            console.print(
                f"{job.checkpoint}: {hint}", style="yellow", markup=False, soft_wrap=True
            )
    outcomes: dict[Path, Any] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f} of {task.total:.0f} {task.fields[unit]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        unit, total = ("recordings", float(len(bags))) if args.ray else ("s", 0.0)
        task = progress.add_task(job.checkpoint, total=total, unit=unit)

        def show(bag: Path, elapsed_s: float, duration_s: float) -> None:
            done = f"{job.checkpoint} on {bag.name} ({len(outcomes) + 1} of {len(bags)})"
            progress.update(task, description=done, completed=elapsed_s, total=duration_s)

        replays = replay_bags(
            job,
            bags,
            resume=args.resume,
            on_progress=show,
            ray_address=args.ray,
            process=process,
        )
        for bag, outcome in replays:
            outcomes[bag] = outcome
            if args.ray:
                progress.update(task, completed=len(outcomes))
            if len(bags) > 1:
                is_done = isinstance(outcome, BagResult)
                what = "replayed" if is_done else "cannot be replayed"
                console.print(f"{len(outcomes)} of {len(bags)}: {bag} {what}", soft_wrap=True)
    results = [outcomes[bag] for bag in bags if isinstance(outcomes[bag], BagResult)]
    failures = [outcomes[bag] for bag in bags if not isinstance(outcomes[bag], BagResult)]
    if not results:
        raise DatasetError("\n".join(failure.reason for failure in failures))
    return results, failures


def _judge(
    job: ReplayJob, bag: Path, answers: Path, console: Console
) -> tuple[BagResult, dict[str, Any]]:
    """Judge recorded answers instead of asking the policy; return the result and its figures.

    Raises:
        DatasetError: A recording cannot be read.
    """
    from rich.progress import Progress

    from vla_core.evaluation.replay.online_run import evaluate_answers

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"answers on {bag.name}")

        def show(elapsed_s: float, duration_s: float) -> None:
            progress.update(task, completed=elapsed_s, total=duration_s)

        return evaluate_answers(job, bag, answers, on_progress=show)


def _outputs(job: ReplayJob) -> list[tuple[str, str]]:
    found = [("report.html", "figures, plots and frames"), ("metrics.json", "every figure")]
    if job.writes_mcap:
        found.append(("predictions", "prediction and recording, for Foxglove with foxglove.json"))
    elif job.writes_rerun:
        found.append(("predictions", "prediction and recording, for Rerun"))
    return found
