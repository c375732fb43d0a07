# SPDX-License-Identifier: MIT
"""Checkpoints of a training run: complete or absent, never half-written.

Each is a folder ``step-<n>`` that is written under another name, flushed to disk and renamed;
whatever kills the process, the newest one is complete. The last and the best are kept. Tensors
are safetensors; the optimiser's state is read with ``weights_only``, so that a checkpoint cannot
run code.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla_core.errors import CheckpointError

_PREFIX = "step-"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Everything that a run needs to go on as if it had never stopped.

    Attributes:
        model: Weights.
        average: Averaged weights.
        optimizer: State of the optimiser and its schedule.
        progress: JSON values: step, position in the data, seconds, recipe, best error.
        random: State of the random generators of each process, as ``random_state`` returns it.
    """

    model: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    progress: dict[str, Any]
    random: list[dict[str, Any]]


class Checkpoints:
    """The checkpoints below one folder.

    Args:
        root: Folder; created when the first is saved.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def latest(self) -> Path | None:
        """Return the folder of the last complete checkpoint, or None."""
        complete = sorted(self.root.glob(f"{_PREFIX}*"))
        return complete[-1] if complete else None

    def save(self, step: int, state: TrainingState, *, best_step: int | None = None) -> Path:
        """Write a checkpoint, then remove those that are neither last nor best.

        Args:
            step: Steps that were trained.
            state: What to save.
            best_step: That of the checkpoint with the smallest validation error, if there is one.

        Returns:
            Its folder.
        """
        final = self._path(step)
        partial = self.root / f".{final.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(_contiguous(state.model), partial / "model.safetensors")
        save_file(_contiguous(state.average), partial / "average.safetensors")
        torch.save({"optimizer": state.optimizer}, partial / "optimizer.pt")
        progress = {"progress": state.progress, "random": state.random}
        (partial / "state.json").write_text(json.dumps(progress))
        for path in (*partial.iterdir(), partial):
            _flush(path)
        if final.exists():
            self._remove(final)
        partial.rename(final)
        _flush(self.root)
        kept = {final} if best_step is None else {final, self._path(best_step)}
        for path in self.root.glob(f"{_PREFIX}*"):
            if path not in kept:
                self._remove(path)
        return final

    def load(self, path: Path) -> TrainingState:
        """Read a checkpoint.

        Raises:
            CheckpointError: A file is missing or damaged.
        """
        progress, random_states = self.load_progress(path)
        with _explain_damage(path):
            # Mapped, as each of several processes may need a part of it only.
            stored = torch.load(path / "optimizer.pt", weights_only=True, mmap=True)
            return TrainingState(
                model=load_file(path / "model.safetensors"),
                average=load_file(path / "average.safetensors"),
                optimizer=stored["optimizer"],
                progress=progress,
                random=random_states,
            )

    def load_progress(self, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Read ``progress`` and ``random`` of a checkpoint's state, and no tensor.

        Raises:
            CheckpointError: The file is missing or damaged.
        """
        with _explain_damage(path):
            content = json.loads((path / "state.json").read_text())
            return content["progress"], _by_process(content["random"])

    def _path(self, step: int) -> Path:
        return self.root / f"{_PREFIX}{step:08d}"

    def _remove(self, path: Path) -> None:
        # Renamed first: what is half removed must not look like a checkpoint.
        removed = self.root / f".{path.name}.removed"
        shutil.rmtree(removed, ignore_errors=True)
        path.rename(removed)
        shutil.rmtree(removed)


def seed_everything(seed: int) -> None:
    """Seed the generators of torch, numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def random_state() -> dict[str, Any]:
    """Return the state of the generators of torch, numpy and Python as JSON values."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": [np.asarray(keys).tolist(), position, has_gauss, gauss],
        "python": [version, list(internal), gauss_next],
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what ``random_state`` returned."""
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", np.asarray(keys, np.uint32), *rest))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    for device, values in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(torch.tensor(values, dtype=torch.uint8), device)


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        raise CheckpointError(
            f"checkpoint '{path}' is damaged: {error}; delete it to resume from another one."
        ) from error


def _by_process(states: Any) -> list[dict[str, Any]]:
    # A run of one process saved its state alone in version 0.1.
    return [states] if isinstance(states, dict) else list(states)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory.
    return {key: value.detach().contiguous().clone() for key, value in tensors.items()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
