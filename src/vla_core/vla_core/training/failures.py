# SPDX-License-Identifier: MIT
"""What stops a training run, with its cause and what to do: no memory, no finite loss."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from vla_core.errors import TrainingError
from vla_core.training.recipe import TrainRecipe

_MEMINFO = Path("/proc/meminfo")
# How PyTorch's allocators for the CPU say it, which have no exception of their own.
_CPU_MESSAGES = ("not enough memory", "can't allocate memory", "cannot allocate memory")
_LEAST_FREE_BYTES = 1_000_000
_COMPILER_MODULES = ("torch._dynamo", "torch._inductor")


@contextmanager
def explain_failures(
    recipe: TrainRecipe, activity: str, *, in_training: bool = True
) -> Iterator[None]:
    """Turn a lack of memory, or of a compiler, into an error that says what to do.

    Args:
        recipe: Its present values are named.
        activity: What is done meanwhile.
        in_training: Whether it is a step, which a smaller batch helps, or comes before all steps.

    Raises:
        TrainingError: The memory was not enough, or the model could not be compiled.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if type(error).__module__.startswith(_COMPILER_MODULES):
            raise TrainingError(
                f"the blocks of the model could not be compiled: {_first_line(error)} Install a "
                "C++ compiler and the headers of Python, or set compile=false."
            ) from error
        if not _is_out_of_memory(error):
            raise
        if not in_training:
            raise TrainingError(
                f"memory ran out while {activity}: {_first_line(error)} Lower image_size (now "
                f"{recipe.image_size}), or train on fewer episodes"
                f"{', or set cache_features=false' if recipe.cache_features else ''}."
            ) from error
        smaller = [
            f"gradient_accumulation={2 * recipe.gradient_accumulation}, which computes the same "
            "in smaller parts",
            f"a batch_size below {recipe.batch_size}",
        ]
        if not recipe.gradient_checkpointing:
            smaller.append("gradient_checkpointing=true")
        if recipe.precision == "fp32":
            smaller.append("precision=bf16")
        raise TrainingError(
            f"memory ran out while {activity}: {_first_line(error)} Try {', or '.join(smaller)}."
        ) from error


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn a lack of space for the files of a run into an error that says what to do.

    Args:
        folder: That of the run.

    Raises:
        TrainingError: A file could not be written, and the disk has no space left.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # The writers of torch and safetensors do not say why they failed.
        free = shutil.disk_usage(folder).free
        if free >= _LEAST_FREE_BYTES:
            raise
        raise TrainingError(
            f"the disk of '{folder}' is full ({free / 1e6:.1f} MB free): {_first_line(error)} "
            "What was saved before is whole; free some space and go on with --resume."
        ) from error


def require_memory(needed: int, purpose: str, remedy: str) -> None:
    """Refuse to start on what does not fit into memory; the kernel would kill the process.

    Args:
        needed: Bytes.
        purpose: What for.
        remedy: What needs less.

    Raises:
        TrainingError: Less is available. Where this is not known, nothing is refused.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise TrainingError(
            f"{purpose} need {needed / 1e9:.1f} GB of memory, but {available / 1e9:.1f} GB are "
            f"available; {remedy}."
        )


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, or None if that is not known."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def require_finite(
    name: str, value: float, step: int, recipe: TrainRecipe, latest: Path | None
) -> None:
    """Refuse to go on with a figure that is not finite.

    Args:
        name: What it is.
        value: The figure.
        step: Step that was being trained.
        recipe: Its present values are named.
        latest: The last checkpoint, if there is one.

    Raises:
        TrainingError: It is NaN or infinite.
    """
    if math.isfinite(value):
        return
    kept = f"the last checkpoint is '{latest}'" if latest else "no checkpoint was saved yet"
    precision = recipe.precision
    rounding = "" if precision == "fp32" else f"set precision=fp32 (now {precision}), "
    raise TrainingError(
        f"{name} is {value} at step {step}, so training stopped; {kept}. "
        f"Lower optimizer.learning_rate (now {recipe.optimizer.learning_rate:g}), "
        f"{rounding}and look for outliers in the dataset's meta/stats.json."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".") + "."


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    message = str(error).lower()
    return any(text in message for text in _CPU_MESSAGES)
