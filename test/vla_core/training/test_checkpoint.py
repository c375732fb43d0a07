# SPDX-License-Identifier: MIT
import random

import numpy as np
import pytest
import torch

from vla_core.errors import CheckpointError
from vla_core.training.checkpoint import (
    Checkpoints,
    TrainingState,
    random_state,
    restore_random_state,
)


def _state(value=1.0):
    return TrainingState(
        model={"weight": torch.full((2,), value)},
        average={"weight": torch.full((2,), -value)},
        optimizer={"lr": value, "moment": torch.ones(3)},
        progress={"step": 7},
        random=[random_state()],
    )


def test_saved_state_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    loaded = checkpoints.load(checkpoints.save(7, _state(3.0)))
    assert loaded.model["weight"].tolist() == [3.0, 3.0]
    assert loaded.average["weight"].tolist() == [-3.0, -3.0]
    assert loaded.optimizer["lr"] == 3.0
    assert loaded.progress == {"step": 7}


def test_last_and_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step, best_step in ((10, None), (20, 20), (30, 20), (40, 20)):
        checkpoints.save(step, _state(), best_step=best_step)
    kept = sorted(path.name for path in tmp_path.glob("step-*"))
    assert kept == ["step-00000020", "step-00000040"]
    assert checkpoints.latest() == tmp_path / "step-00000040"


def test_half_written_checkpoint_is_not_seen(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, _state())
    (tmp_path / ".step-00000020.partial").mkdir()
    assert checkpoints.latest() == tmp_path / "step-00000010"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "average.safetensors", "optimizer.pt", "state.json"]
)
def test_truncated_file_is_reported(tmp_path, name):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(10, _state())
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="step-00000010' is damaged"):
        checkpoints.load(path)


def test_pickled_code_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(10, _state())
    torch.save({"optimizer": Harmful()}, path / "optimizer.pt")
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoints.load(path)
    assert not (tmp_path / "harm").exists()


def test_random_generators_go_on_alike():
    state = random_state()
    first = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())
    restore_random_state(state)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == first
