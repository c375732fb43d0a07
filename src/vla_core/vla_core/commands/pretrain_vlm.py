# SPDX-License-Identifier: MIT
r"""Pre-train the tiny VLM on renders and instructions of the simulation.

It learns to find the block that an instruction asks for: in both images, in the base frame and in
the tool frame. The result is what recipes load with `vlm: {name: tiny, pretrained: DIRECTORY}`.

  vla pretrain-vlm --scenes 24000 --steps 4500 --output out/vlm/tiny
  vla pretrain-vlm --task put_in_box --start-from tiny_vlm --scenes 8000 --steps 2000 \
    --output out/vlm/put_in_box
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vla_core.sim.tasks import DEFAULT_TASK, get_task

if TYPE_CHECKING:
    from rich.console import Console

    from vla_core.models.vlm.base import AbstractVLM
    from vla_core.sim.grounding import GroundingData
    from vla_core.training.vlm_pretraining import GroundingPretrainer

FIRST_SEED = 1_000_000
HELD_OUT_SCENES = 400
_SCENES_PER_TASK = 100
_POINTS_OF_CURVE = 100
_TASKS = ("pick", "put_in_box")
_REPORTED = ("task", "start_from", "scenes", "steps", "batch_size", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--task",
        choices=_TASKS,
        default=DEFAULT_TASK,
        help="scenes and instructions (%(default)s)",
    )
    parser.add_argument(
        "--start-from", metavar="DIRECTORY", help="weights to go on from; 'tiny_vlm' has shipped"
    )
    parser.add_argument("--scenes", type=int, default=24_000, help="scenes to render")
    parser.add_argument("--steps", type=int, default=4_500, help="optimiser steps")
    parser.add_argument("--batch-size", type=int, default=48, help="scenes a step")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--threads", type=int, default=1, help="threads that train")
    parser.add_argument(
        "--output", type=Path, default=Path("out/vlm/tiny"), help="folder of the weights"
    )


def run(args: argparse.Namespace) -> int:
    """Render, train, evaluate and save; return the exit status."""
    import torch
    from rich.console import Console

    from vla_core.training.vlm_pretraining import GroundingPretrainer, PretrainingOptions

    kind = get_task(args.task).simulation_class()
    console = Console()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    vlm = _build_vlm(args.start_from, args.seed)
    start = time.monotonic()
    data = _render(args.scenes + HELD_OUT_SCENES, vlm.get_config()["image_size"], args, console)
    rendered = time.monotonic()
    options = PretrainingOptions(steps=args.steps, batch_size=args.batch_size, seed=args.seed)
    trainer = GroundingPretrainer(
        vlm,
        data.rows(slice(HELD_OUT_SCENES, None)),
        [kind.wordings(target) for target in kind.targets],
        options,
    )
    losses = _train(trainer, console)
    figures = trainer.evaluate(data.rows(slice(0, HELD_OUT_SCENES)))
    vlm.save_pretrained(args.output)
    report = {
        **{key: getattr(args, key) for key in _REPORTED},
        "render_s": round(rendered - start, 1),
        "train_s": round(time.monotonic() - rendered, 1),
        "held_out_scenes": HELD_OUT_SCENES,
        "held_out": figures,
    }
    (args.output / "pretraining.json").write_text(json.dumps(report, indent=2) + "\n")
    _plot(losses, args.steps, args.output / "loss.png")
    for name, value in figures.items():
        console.print(f"{name:24s} {value:.4f}")
    console.print(f"weights, figures and loss curve in {args.output}")
    return 0


def _build_vlm(start_from: str | None, seed: int) -> AbstractVLM:
    """Build the model, with random weights or those of an earlier pre-training."""
    from vla_core.models.vlm import get_vlm

    if start_from is None:
        return get_vlm("tiny", seed=seed)
    return get_vlm("tiny", pretrained=True if start_from == "tiny_vlm" else start_from)


def _render(
    num_scenes: int, image_size: int, args: argparse.Namespace, console: Console
) -> GroundingData:
    """Render scenes in several processes."""
    import multiprocessing

    from vla_core.sim.grounding import GroundingData
    from vla_core.training.progress import ProgressDisplay

    tasks = [
        (min(_SCENES_PER_TASK, num_scenes - first), FIRST_SEED + first, image_size, args.task)
        for first in range(0, num_scenes, _SCENES_PER_TASK)
    ]
    parts = []
    with (
        multiprocessing.get_context("spawn").Pool(args.workers) as pool,
        ProgressDisplay(console, "rendering", num_scenes, unit="scenes") as display,
    ):
        for part in pool.imap(_render_task, tasks):
            parts.append(part)
            display.advance(len(part))
    return GroundingData.concatenate(parts)


def _render_task(task: tuple[int, int, int, str]) -> GroundingData:
    from vla_core.sim.grounding import render_grounding_data

    return render_grounding_data(*task)


def _train(trainer: GroundingPretrainer, console: Console) -> dict[str, list[float]]:
    """Train with a progress bar; return the losses, averaged over parts of equal length."""
    from vla_core.training.progress import ProgressDisplay

    curves: dict[str, list[float]] = {}
    sums: dict[str, float] = {}
    options = trainer.options
    window = max(1, options.steps // _POINTS_OF_CURVE)
    with ProgressDisplay(
        console, "training", options.steps, per_count=options.batch_size
    ) as display:

        def on_step(step: int, losses: dict[str, float]) -> None:
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss
                if step % window == 0:
                    curves.setdefault(name, []).append(sums.pop(name) / window)
            display.advance(loss=losses["total"], learning_rate=trainer.learning_rate)

        trainer.run(on_step)
    return curves


def _plot(curves: dict[str, list[float]], steps: int, path: Path) -> None:
    """Draw the component losses over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log")
    for name, curve in curves.items():
        axes.plot([steps * (i + 1) / len(curve) for i in range(len(curve))], curve, label=name)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
