# SPDX-License-Identifier: MIT
"""Two processes learn what one learns, also if they are killed in between."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from vla_core.training.run_folder import RunFolder

# `accelerate launch`; port 0 stands for a free one.
_LAUNCH = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"),
    *("--main_process_port=0", "--module", "vla_core.cli", "train"),
)
_WAIT_S = 300.0


@pytest.fixture
def recipe_path(tmp_path, octo_values, dataset_root, other):
    """Everything whose order or randomness could depend on who computes it."""
    octo_values["checkpoint"]["every_steps"] = 10
    octo_values |= {
        "steps": 30,
        "dataset": [{"path": str(dataset_root)}, other],
        "stream": {"readers": 2, "buffer_size": 20},
        "augmentation": {"crop": 0.2, "brightness": 0.2},
    }
    (tmp_path / "two.recipe.yaml").write_text(yaml.safe_dump(octo_values))
    return tmp_path / "two.recipe.yaml"


def _start(recipe, root, *arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [*_LAUNCH, str(recipe), "--output", str(root), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _kill(process):
    # The launcher first, which would end the others in its own way.
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) == 2
    for number in (process.pid, *map(int, workers)):
        os.kill(number, signal.SIGKILL)
    process.communicate(timeout=_WAIT_S)


def _losses(root):
    with (root / "loss.csv").open() as file:
        return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)}


def _wait_for_checkpoint(process, root):
    deadline = time.monotonic() + _WAIT_S
    while not list(root.glob("checkpoints/step-*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)


def test_two_killed_and_resumed_processes_have_the_losses_of_one(
    tmp_path, recipe_path, make_trainer
):
    root = tmp_path / "two"
    process = _start(recipe_path, root)
    _wait_for_checkpoint(process, root)
    _kill(process)
    resumed = _start(recipe_path, root, "--resume")
    output, _ = resumed.communicate(timeout=_WAIT_S)
    assert resumed.returncode == 0, output
    assert output.count("resumed at step") == 1
    one = make_trainer("one")
    one.run()
    checkpoints = RunFolder(root).checkpoints
    assert len(checkpoints.load(checkpoints.latest()).random) == 2
    expected = _losses(tmp_path / "one")
    assert _losses(root) == pytest.approx(expected, rel=1e-4)
    assert list(expected) == list(range(1, 31))
