# SPDX-License-Identifier: MIT
import argparse
import csv
import signal
import subprocess
import sys
import time

import pytest
import yaml

from vla_core.commands import train
from vla_core.errors import ConfigError

_COMMAND = """
import argparse, sys
from vla_core.commands import train
parser = argparse.ArgumentParser()
train.add_arguments(parser)
sys.exit(train.run(parser.parse_args()))
"""
_WAIT_S = 300.0
_KILLED = ("steps=60", "checkpoint.every_steps=20")


@pytest.fixture
def recipe_path(tmp_path, recipe_values):
    (tmp_path / "small.recipe.yaml").write_text(yaml.safe_dump(recipe_values))
    return tmp_path / "small.recipe.yaml"


def _run(*arguments):
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return train.run(parser.parse_args([str(argument) for argument in arguments]))


def _start(*arguments):
    command = [sys.executable, "-c", _COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _wait_for_checkpoint(process, root):
    deadline = time.monotonic() + _WAIT_S
    while not list(root.glob("checkpoints/step-*")):
        assert process.poll() is None, "training ended before its first checkpoint"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)


def _losses(root):
    with (root / "loss.csv").open() as file:
        return {int(row["step"]): row["loss"] for row in csv.DictReader(file)}


def test_command_trains_and_says_where_the_policy_is(tmp_path, recipe_path, capsys):
    assert _run(recipe_path, "steps=3", "--output", tmp_path / "run") == 0
    assert (tmp_path / "run/policy/model.safetensors").is_file()
    assert "policy" in capsys.readouterr().out


def test_run_is_not_overwritten_unasked(tmp_path, recipe_path):
    _run(recipe_path, "steps=3", "--output", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"holds a run \(step-00000003\); pass --resume"):
        _run(recipe_path, "steps=2", "--output", tmp_path / "run")
    assert _run(recipe_path, "steps=2", "--output", tmp_path / "run", "--overwrite") == 0
    assert list(_losses(tmp_path / "run")) == [1, 2]


def test_other_recipe_is_refused_before_the_dataset_is_opened(tmp_path, recipe_path, dataset_root):
    root = tmp_path / "run"
    _run(recipe_path, "steps=3", "--output", root)
    dataset_root.rename(tmp_path / "moved")
    changes = ("steps=4", "model.chunk_size=3", "model.dropout=0.1")
    with pytest.raises(ConfigError) as refusal:
        _run(recipe_path, *changes, "--output", root, "--resume")
    for difference in (
        "steps is given as 4, stored as 3",
        "model.chunk_size is given as 3, stored as 4",
        "model.dropout is given as 0.1, stored as None",
    ):
        assert difference in str(refusal.value)
    assert f"vla train {root}/recipe.yaml --resume --output {root}" in str(refusal.value)
    (tmp_path / "moved").rename(dataset_root)
    assert _run(root / "recipe.yaml", "--resume", "--output", root) == 0


def test_interrupt_saves_and_says_how_to_resume(tmp_path, recipe_path):
    root = tmp_path / "run"
    process = _start(recipe_path, "steps=1000000", "--output", root)
    _wait_for_checkpoint(process, root)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=_WAIT_S)
    assert process.returncode == 130
    assert f"vla train {recipe_path} steps=1000000 --resume --output {root}" in output
    saved = max(int(path.name.partition("-")[2]) for path in root.glob("checkpoints/step-*"))
    assert max(_losses(root)) == saved


def test_killed_run_goes_on_from_its_last_checkpoint(tmp_path, recipe_path, make_trainer):
    root = tmp_path / "killed"
    process = _start(recipe_path, *_KILLED, "--output", root)
    _wait_for_checkpoint(process, root)
    process.kill()
    process.communicate(timeout=_WAIT_S)
    assert _run(recipe_path, *_KILLED, "--output", root, "--resume") == 0
    whole = make_trainer("whole", steps=60, checkpoint={"every_steps": 20})
    whole.run()
    assert _losses(root) == _losses(tmp_path / "whole")
