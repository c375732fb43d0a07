# SPDX-License-Identifier: MIT
"""Untrained checkpoints: one per framework, the same in every process, for any robot."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from vla_core.errors import CheckpointError
from vla_core.inference.checkpoint_files import WEIGHTS_NAME, find_checkpoint
from vla_core.inference.policy import Policy, black_observation
from vla_core.inference.untrained import untrained_checkpoint
from vla_core.models.frameworks import available_frameworks
from vla_core.models.weight_files import weights_identity
from vla_core.processing.contract import load_contract

CONTRACT = load_contract("sim")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache that is empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def identity(folder):
    return weights_identity(folder / WEIGHTS_NAME)


@pytest.mark.parametrize("framework", available_frameworks())
def test_every_framework_answers_the_robot_of_a_contract(framework):
    policy = Policy.from_checkpoint(f"untrained:{framework}", contract="sim")
    observation = replace(black_observation(policy.pipeline), instruction="pick up the red block")
    chunk, again = (policy.predict_chunk(observation, seed=3) for _ in range(2))
    assert chunk.joints == CONTRACT.action.joints
    assert len(chunk.actions) == (1 if framework == "rt2" else 16)
    np.testing.assert_array_equal(chunk.actions, again.actions)


def test_the_normalised_range_is_inside_the_limits_of_each_joint():
    pipeline = Policy.from_checkpoint("untrained:act", contract=CONTRACT).pipeline
    for side in (-1.0, 1.0):
        ends = pipeline.unnormalize_actions(np.full(7, side))
        for limit, end in zip(CONTRACT.action_limits.values(), ends, strict=True):
            assert limit.lower < end < limit.upper


def test_it_is_built_once(cache):
    folder = find_checkpoint("untrained:custom", CONTRACT)
    before = (folder / WEIGHTS_NAME).stat().st_mtime_ns
    assert find_checkpoint("untrained:custom", CONTRACT) == folder
    assert (folder / WEIGHTS_NAME).stat().st_mtime_ns == before
    assert [path for path in folder.parent.iterdir() if path != folder] == []


def test_another_seed_gives_other_weights():
    first, second = (untrained_checkpoint("untrained:act", CONTRACT, seed=seed) for seed in (0, 1))
    assert identity(first) != identity(second)


def test_a_process_without_torch_gets_the_same_weights_and_stays_without(cache, tmp_path):
    here = identity(find_checkpoint("untrained:helix", CONTRACT))
    code = (
        "import json, sys\n"
        "from vla_core.inference.checkpoint_files import find_checkpoint, WEIGHTS_NAME\n"
        "from vla_core.models.weight_files import weights_identity\n"
        "from vla_core.processing.contract import load_contract\n"
        "folder = find_checkpoint('untrained:helix', load_contract('sim'))\n"
        "print(json.dumps([weights_identity(folder / WEIGHTS_NAME), 'torch' in sys.modules]))\n"
    )
    other_cache = {"XDG_CACHE_HOME": str(tmp_path / "other")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **other_cache},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [here, False]


def test_unknown_framework_names_the_known():
    with pytest.raises(CheckpointError, match=r"'untrained:groot' is unknown.*'untrained:gr00t'"):
        find_checkpoint("untrained:groot", CONTRACT)


def test_without_a_robot_it_cannot_be_built():
    with pytest.raises(CheckpointError, match="built for a robot; give its contract"):
        Policy.from_checkpoint("untrained:act")
