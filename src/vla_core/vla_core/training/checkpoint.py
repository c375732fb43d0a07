# SPDX-License-Identifier: MIT
"""Checkpoints of a training run: complete or absent, never half-written.

Each is a folder ``step-<n>`` that is written under another name, flushed to disk and renamed. The
last and the best are kept. Tensors are safetensors; the optimiser's state is read with
``weights_only``, so that a checkpoint cannot run code.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
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
        random: State of the random generators, as ``random_state`` returns it.
    """

    model: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    progress: dict[str, Any]
    random: dict[str, Any]


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

    def save(self, step: int, state: TrainingState, *, is_best: bool) -> Path:
        """Write a checkpoint, then remove those that are neither last nor best.

        Args:
            step: Steps that were trained.
            state: What to save.
            is_best: Whether it has the smallest validation error so far.

        Returns:
            Its folder.
        """
        final = self.root / f"{_PREFIX}{step:08d}"
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
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        if is_best:
            self._mark_best(final)
        _flush(self.root)
        self._remove_all_but({final.name, self._best_name()})
        return final

    def load(self, path: Path) -> TrainingState:
        """Read a checkpoint.

        Raises:
            CheckpointError: A file is missing or damaged.
        """
        try:
            content = json.loads((path / "state.json").read_text())
            optimizer = torch.load(path / "optimizer.pt", weights_only=True)["optimizer"]
            return TrainingState(
                model=load_file(path / "model.safetensors"),
                average=load_file(path / "average.safetensors"),
                optimizer=optimizer,
                progress=content["progress"],
                random=content["random"],
            )
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

    def _best_name(self) -> str:
        marker = self.root / "best"
        return marker.read_text() if marker.is_file() else ""

    def _mark_best(self, checkpoint: Path) -> None:
        partial = self.root / ".best.partial"
        partial.write_text(checkpoint.name)
        os.replace(partial, self.root / "best")

    def _remove_all_but(self, kept: set[str]) -> None:
        for path in self.root.glob(f"{_PREFIX}*"):
            if path.name not in kept:
                shutil.rmtree(path)


def random_state() -> dict[str, Any]:
    """Return the state of the generators of torch, numpy and Python as JSON values."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": [np.asarray(keys).tolist(), position, has_gauss, gauss],
        "python": [version, list(internal), gauss_next],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what ``random_state`` returned."""
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", np.asarray(keys, np.uint32), *rest))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory.
    return {key: value.detach().contiguous().clone() for key, value in tensors.items()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
