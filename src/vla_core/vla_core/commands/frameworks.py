# SPDX-License-Identifier: MIT
"""List the frameworks with their parameters, presets and latency on this machine.

Each is built untrained with the settings of a preset on the small VLM that needs no download, for
a robot with seven joints and two cameras of 96 x 96 px, and predicts for one observation. The
latency is that of the whole prediction: images to actions, with every step of a sampler.

  vla frameworks
  vla frameworks gr00t pi0 --preset reference --runs 50
  vla frameworks --json > frameworks.json
"""

from __future__ import annotations

import argparse
import inspect
import json
import platform
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from vla_core.models.frameworks import AbstractVLA

_NUM_CAMERAS, _ACTION_DIM, _STATE_DIM, _IMAGE_SIZE = 2, 7, 14, 96
_ACTION_TOKENS = 256
_WIDTH_WITH_SUMMARY = 120
_WARM_UP_RUNS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("names", metavar="NAME", nargs="*", help="frameworks (default all)")
    parser.add_argument(
        "--preset", default="seed", help="settings, for those that have them (default seed)"
    )
    parser.add_argument("--runs", type=int, default=20, help="predictions timed (default 20)")
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default its own choice)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Measure and print; return the exit status.

    Raises:
        ConfigError: A number is not positive, or no framework has the preset.
        UnknownNameError: There is no framework of a name.
    """
    import torch

    from vla_core.errors import ConfigError
    from vla_core.models.frameworks import available_frameworks, framework_class

    for name, value in (("--runs", args.runs), ("--threads", args.threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}.")
    classes = [framework_class(name) for name in args.names or available_frameworks()]
    classes = [cls for cls in classes if args.preset in cls.presets]
    if not classes:
        raise ConfigError(f"--preset {args.preset!r} is of none of these frameworks.")
    threads = torch.get_num_threads()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    try:
        machine = {
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        rows = [describe(cls, args.preset, args.runs) for cls in classes]
    finally:
        torch.set_num_threads(threads)
    if args.json:
        json.dump({"machine": machine, "preset": args.preset, "frameworks": rows}, sys.stdout)
        print()
        return 0

    from rich.console import Console

    console = Console(highlight=False)
    console.print(make_table(rows, with_summary=console.width >= _WIDTH_WITH_SUMMARY))
    console.print(
        f"preset {args.preset}, untrained, on the tiny VLM; latency of one observation with "
        f"{_NUM_CAMERAS} cameras on {machine['processor']}, {machine['threads']} thread(s), "
        f"PyTorch {machine['torch']}.",
        style="dim",
    )
    return 0


def describe(framework: type[AbstractVLA], preset: str, runs: int) -> dict[str, Any]:
    """Build a framework and time its predictions.

    Args:
        framework: Its constructor's `vlm`, `vision_encoder`, `state_dim` and `num_cameras` are
            given where it has them; the preset and its defaults say the rest.
        preset: Name of one of its presets.
        runs: Predictions that are timed.

    Returns:
        Name, class, first line of the module's documentation, numbers of parameters, presets,
        shape of the predicted actions, and latency in ms (median and 95th percentile).
    """
    model = build(framework, preset).eval()
    latencies_ms, actions = _time_predictions(model, runs)
    module = inspect.getmodule(framework)
    return {
        "name": framework.framework,
        "class": framework.__name__,
        "summary": (inspect.getdoc(module) or "").partition("\n")[0],
        "parameters": model.get_num_parameters(),
        "trainable_parameters": model.get_num_parameters(trainable_only=True),
        "presets": list(framework.presets),
        "action_shape": actions,
        "latency_ms": {
            "median": statistics.median(latencies_ms),
            "p95": sorted(latencies_ms)[max(0, -(-95 * runs // 100) - 1)],
            "runs": runs,
        },
    }


def build(framework: type[AbstractVLA], preset: str) -> AbstractVLA:
    """Build a framework untrained, from a preset, on the small VLM."""
    from vla_core.models.encoders import PatchVisionEncoder
    from vla_core.models.vlm import get_vlm

    accepted = inspect.signature(framework).parameters
    given: dict[str, Any] = {
        "action_dim": _ACTION_DIM,
        "state_dim": _STATE_DIM,
        "num_cameras": _NUM_CAMERAS,
    }
    if "vlm" in accepted:
        given["vlm"] = get_vlm(
            "tiny", image_size=_IMAGE_SIZE, num_action_tokens=_ACTION_TOKENS, max_text_tokens=64
        )
    if "vision_encoder" in accepted:
        given["vision_encoder"] = PatchVisionEncoder()
    settings = framework.presets[preset]
    return framework.from_preset(
        preset,
        **{key: value for key, value in given.items() if key in accepted and key not in settings},
    )


def make_table(rows: list[dict[str, Any]], *, with_summary: bool) -> Table:
    """Return the table of what `describe` returned."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("framework", style="cyan", no_wrap=True)
    if with_summary:
        table.add_column("what it is")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("trainable", justify="right", no_wrap=True)
    table.add_column("presets")
    table.add_column("actions", justify="right", no_wrap=True)
    table.add_column("latency", justify="right", no_wrap=True)
    table.add_column("p95", justify="right", no_wrap=True)
    for row in rows:
        latency = row["latency_ms"]
        summary = (row["summary"].partition(": ")[2] or row["summary"]).rstrip(".")
        table.add_row(
            row["name"],
            *([summary] if with_summary else []),
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['trainable_parameters'] / 1e6:.2f} M",
            ", ".join(row["presets"]),
            " x ".join(map(str, row["action_shape"])),
            f"{latency['median']:.1f} ms",
            f"{latency['p95']:.1f} ms",
        )
    return table


def _time_predictions(model: AbstractVLA, runs: int) -> tuple[list[float], list[int]]:
    """Return the latency of each run in ms, and the shape of one row's actions."""
    import torch

    draws = torch.Generator().manual_seed(0)
    observation: dict[str, Any] = {
        "images": torch.rand(1, _NUM_CAMERAS, 3, _IMAGE_SIZE, _IMAGE_SIZE, generator=draws),
        "text": ["pick up the red block"],
    }
    if state_dim := model.get_config().get("state_dim"):
        observation["proprioception"] = torch.rand(1, state_dim, generator=draws)
    latencies_ms = []
    for _ in range(_WARM_UP_RUNS + runs):
        begin = time.perf_counter()
        actions = model.predict_action(**observation, generator=draws)
        latencies_ms.append(1e3 * (time.perf_counter() - begin))
    return latencies_ms[_WARM_UP_RUNS:], list(actions.shape[1:])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [line.partition(":")[2].strip() for line in info if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
