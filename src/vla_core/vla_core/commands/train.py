# SPDX-License-Identifier: MIT
"""Train a policy by a recipe, on recorded episodes.

RECIPE is a shipped name such as 'groot' or a YAML file; key=value overrides what it says, with
dots for nested keys. Ctrl-C saves a checkpoint; --resume continues from the last one. The folder
of the run gets loss.csv, loss.png, tensorboard/, checkpoints/, and in policy/ what the nodes load.

  vla train groot
  vla train groot steps=2000 optimizer.learning_rate=1e-3 --output out/train/short
  vla train groot --resume
  accelerate launch --multi_gpu -m vla_core.cli train groot     # all GPUs of this machine
  accelerate launch --multi_gpu -m vla_core.cli train pi0 shard_weights=true   # FSDP
"""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

_EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage = "vla train RECIPE [key=value ...] [options]"
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or its YAML file")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="replace a value of the recipe"
    )
    parser.add_argument(
        "--from",
        dest="start_from",
        metavar="CHECKPOINT",
        help="start from its weights: a folder, a shipped name, or hf:owner/name[@revision]",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="discard a run in the folder")
    parser.add_argument(
        "--output", type=Path, help="folder of the run (default out/train/<name of the recipe>)"
    )


def run(args: argparse.Namespace) -> int:
    """Train; return the exit status."""
    # Read when torch is loaded. Threads that spin while they wait make a step many times slower
    # as soon as another process wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from rich.console import Console

    from vla_core.errors import ConfigError
    from vla_core.training.accelerator import leave_processes
    from vla_core.training.recipe import load_recipe
    from vla_core.training.run_folder import RunFolder
    from vla_core.training.trainer import Trainer

    overrides = list(args.overrides)
    if args.start_from:
        overrides.append(f"start_from={args.start_from}")
    recipe = load_recipe(args.recipe, overrides)
    folder = RunFolder(args.output or Path("out/train") / Path(args.recipe).stem)
    latest = folder.checkpoints.latest()
    if latest is not None and not (args.resume or args.overwrite):
        raise ConfigError(
            f"'{folder.root}' holds a run ({latest.name}); pass --resume to continue it, "
            "--overwrite to discard it, or another --output."
        )
    console = Console()
    trainer = Trainer(recipe, folder, console, will_resume=args.resume)
    console.quiet = not trainer.is_main
    if args.resume:
        found = trainer.resume()
        console.print(f"resumed at step {trainer.step}" if found else "no checkpoint: starting")
    else:
        trainer.start_over()
    result = trainer.run()
    leave_processes()
    if not result.is_complete:
        count = trainer.num_processes
        several = f"accelerate launch --multi_gpu --num_processes {count} -m vla_core.cli"
        command = ["train", args.recipe, *overrides, "--resume"]
        if args.output:
            command += ["--output", str(args.output)]
        hint = f"continue with: {several if count > 1 else 'vla'} {shlex.join(command)}"
        console.print(f"stopped and saved at step {result.step}; {hint}", soft_wrap=True)
        return _EXIT_INTERRUPTED
    console.print(f"{result.step} steps in {result.seconds:.0f} s; policy: {folder.policy_path}")
    return 0
