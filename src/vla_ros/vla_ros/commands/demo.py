# SPDX-License-Identifier: MIT
"""Show the trained policy at work: episodes over ROS 2, a film and a report.

Starts the simulated robot, the policy, the command loop and a recorder as processes of their own,
gives an instruction per episode, and leaves the recording, a film, a contact sheet, report.html
and summary.json. Ctrl-C stops everything; what was done until then is still reported. Ctrl-C again
stops at once.

  vla demo
  vla demo --episodes 50 --ablate
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from vla_core.cli import EXIT_INTERRUPTED

EXIT_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--episodes", type=int, default=5, help="scenes (default 5)")
    parser.add_argument(
        "--first-seed", type=int, default=200_000, help="seed of the first scene (default 200000)"
    )
    parser.add_argument(
        "--ablate",
        action="store_true",
        help="run every scene again with another colour named, then all of them in the gymnasium "
        "loop, there also with black images",
    )
    parser.add_argument(
        "--checkpoint", default="groot", help="shipped name or folder (default groot)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("out/demo"), help="folder of the results"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demonstration; return the exit status.

    Raises:
        ConfigError: The seeds were seen in training.
        DatasetError: The recording is incomplete.
    """
    from rich.console import Console

    from vla_core.evaluation.console import success_table
    from vla_core.evaluation.seeds import held_out_seeds
    from vla_ros.demo import Demo

    console = Console(highlight=False)
    demo = Demo(
        graph="groot",
        checkpoint=args.checkpoint,
        seeds=held_out_seeds(args.first_seed, args.episodes),
        ablate=args.ablate,
        folder=args.output,
        console=console,
    )
    # Ended from outside, it leaves as much as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    demo.run()
    if not demo.results:
        console.print("No episode was finished.")
        return EXIT_INTERRUPTED if demo.is_interrupted else EXIT_FAILED
    is_complete = not (demo.is_interrupted or demo.problems)
    rollout = demo.run_rollout() if args.ablate and is_complete else None
    with console.status("writing the report"):
        demo.write_report(rollout)
    console.print()
    console.print(success_table(demo.results))
    if len(demo.results) < demo.num_planned:
        console.print(f"ended after {len(demo.results)} of {demo.num_planned} episodes")
    if "first_motion_s" in demo.start_up:
        console.print(f"\nfirst motion {demo.start_up['first_motion_s']:.1f} s after the start")
    for name, what in (
        ("report.html", "figures and plots"),
        ("replay/report.html", "the recording replayed, as `vla replay` does it"),
        ("demo.mp4", "film"),
        ("contact_sheet.png", "pictures of every episode"),
        ("bag", "recording, MCAP"),
        ("summary.json", "every figure of the report"),
    ):
        if (args.output / name).exists():
            console.print(f"  {args.output / name}  {what}")
    for problem in demo.problems:
        console.print(problem, style="red", markup=False, soft_wrap=True)
    if demo.is_interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if demo.problems else 0
