# SPDX-License-Identifier: MIT
"""Two processes learn what one learns, also if they are killed in between."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from vla_core.models.frameworks import AbstractVLA
from vla_core.training.run_folder import RunFolder

# `accelerate launch`; port 0 stands for a free one.
_LAUNCH = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"),
    "--main_process_port=0",
)
# `vla`, which tells at the end how much of the weights each process has.
_SHARDED_VLA = """
import sys

from vla_core import cli
from vla_core.training.trainer import Trainer

run = Trainer.run

def run_and_tell(trainer):
    result = run(trainer)
    weights = list(trainer._learner.model.parameters())
    own = sum(weight.to_local().numel() for weight in weights)
    print(f"holds {own} of {sum(weight.numel() for weight in weights)}")
    return result

Trainer.run = run_and_tell
sys.exit(cli.main())
"""
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


def _start(recipe, root, *arguments, script=("--module", "vla_core.cli")):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [*_LAUNCH, *script, "train", str(recipe), "--output", str(root), *arguments],
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
    one = make_trainer("one", device="cpu")
    one.run()
    checkpoints = RunFolder(root).checkpoints
    assert len(checkpoints.load(checkpoints.latest()).random) == 2
    expected = _losses(tmp_path / "one")
    assert _losses(root) == pytest.approx(expected, rel=1e-4)
    assert list(expected) == list(range(1, 31))


def test_processes_with_a_part_of_the_weights_learn_what_one_with_all_does(
    tmp_path, recipe_path, octo_values, make_trainer
):
    octo_values["checkpoint"]["every_steps"] = 5
    octo_values |= {"steps": 16, "gradient_accumulation": 2, "unfreeze_step": 8}
    octo_values |= {"shard_weights": True}
    recipe_path.write_text(yaml.safe_dump(octo_values))
    (tmp_path / "vla.py").write_text(_SHARDED_VLA)
    script = (str(tmp_path / "vla.py"),)
    root = tmp_path / "two"
    process = _start(recipe_path, root, script=script)
    _wait_for_checkpoint(process, root)
    _kill(process)
    resumed = _start(recipe_path, root, "--resume", script=script)
    output, _ = resumed.communicate(timeout=_WAIT_S)
    assert resumed.returncode == 0, output
    assert output.count("resumed at step") == 1
    one = make_trainer("one", device="cpu")
    one.run()
    expected = _losses(one.folder.root)
    assert _losses(root) == pytest.approx(expected, rel=1e-4)
    assert list(expected) == list(range(1, 17))
    held = [int(own) / int(whole) for own, whole in re.findall(r"holds (\d+) of (\d+)", output)]
    assert held == pytest.approx([0.5, 0.5], abs=0.1)
    policy, whole = (
        AbstractVLA.from_pretrained(folder.policy_path).state_dict()
        for folder in (RunFolder(root), one.folder)
    )
    # A bias of attention's keys has no gradient but rounding, which Adam makes as large as any.
    torch.testing.assert_close(policy, whole, rtol=1e-3, atol=1e-3)
