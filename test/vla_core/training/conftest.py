# SPDX-License-Identifier: MIT
"""A small robot, a few of its episodes, and a recipe that trains on them in seconds."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from vla_core.dataset import EpisodeWriter
from vla_core.processing.contract import RobotContract
from vla_core.training.recipe import TrainRecipe
from vla_core.training.run_folder import RunFolder
from vla_core.training.trainer import Trainer

_JOINTS = ["joint_1", "joint_2", "gripper_joint"]
_CAMERA = {"width": 32, "height": 32, "max_age_s": 0.2}
_CONTRACT = {
    "robot": "small",
    "cameras": {
        "front": {"topic": "front/image_raw", **_CAMERA},
        "wrist": {"topic": "wrist/image_raw", **_CAMERA},
    },
    "state": {"topic": "joint_states", "joints": _JOINTS, "max_age_s": 0.2},
    "action": {"kind": "joint_position", "joints": _JOINTS, "rate_hz": 10.0, "max_age_s": 0.6},
    "command": {"rate_hz": 50.0, "output": "joint_trajectory", "topic": "arm/joint_trajectory"},
    "limits": {
        joint: {"lower": -2.0, "upper": 2.0, "velocity": 1.0, "acceleration": 5.0}
        for joint in _JOINTS
    },
}


@pytest.fixture
def contract() -> RobotContract:
    """Two cameras of 32 pixels, three joints."""
    return RobotContract.from_dict(_CONTRACT)


@pytest.fixture
def make_episode() -> Callable[..., dict[str, Any]]:
    """Return a function that makes a smooth motion to a random goal with random images."""

    def make(seed: int, length: int = 12) -> dict[str, Any]:
        generator = np.random.default_rng(seed)
        path = np.linspace(0.0, 1.0, length + 1)[:, None] * generator.uniform(-1, 1, 3)
        frames = generator.integers(0, 256, (2, length, 32, 32, 3), dtype=np.uint8)
        return {
            "images": {"front": frames[0], "wrist": frames[1]},
            "state": path[:-1],
            "actions": path[1:],
            "task": f"pick up the {('red', 'green', 'blue')[seed % 3]} block",
            "seed": 100 + seed,
        }

    return make


@pytest.fixture
def dataset_root(
    tmp_path: Path, contract: RobotContract, make_episode: Callable[..., dict[str, Any]]
) -> Path:
    """Six episodes of 12 frames."""
    with EpisodeWriter.for_contract(tmp_path / "data", contract) as writer:
        for seed in range(6):
            writer.add_episode(**make_episode(seed))
    return tmp_path / "data"


@pytest.fixture
def recipe_values(tmp_path: Path, dataset_root: Path) -> dict[str, Any]:
    """Plain values of a recipe for 12 steps of a very small model."""
    contract_path = tmp_path / "small.yaml"
    contract_path.write_text(json.dumps(_CONTRACT))
    vlm = {"image_size": 32, "hidden_size": 16, "depth": 1, "num_heads": 2}
    return {
        "framework": "gr00t",
        "contract": str(contract_path),
        "dataset": str(dataset_root),
        "vlm": {"name": "tiny", "pretrained": False, **vlm},
        "model": {"hidden_dim": 16, "chunk_size": 4, "diffusion_steps": 8, "sampler": "ddim"},
        "image_size": 32,
        "normalization": "min_max",
        "batch_size": 8,
        "steps": 12,
        "optimizer": {
            "learning_rate": 1e-3,
            "warmup_steps": 2,
            "weight_decay": 1e-4,
            "max_grad_norm": 1.0,
            "ema_decay": 0.9,
        },
        "validation": {"fraction": 0.2, "every_steps": 6, "max_frames": 10},
        "checkpoint": {"every_steps": 5, "policy": "last"},
        "cache_features": True,
        "precision": "fp32",
        "num_threads": 1,
        "seed": 0,
    }


@pytest.fixture
def octo_values(recipe_values: dict[str, Any]) -> dict[str, Any]:
    """The same for a very small Octo with two earlier frames, whose loss draws no noise."""
    recipe_values |= {"framework": "octo", "vlm": {}, "cache_features": False}
    recipe_values["model"] = {
        "vision_encoder": {"name": "patch", "output_dim": 16},
        **{"hidden_dim": 16, "num_heads": 2, "num_layers": 1, "chunk_size": 4},
        "history_length": 2,
    }
    return recipe_values


@pytest.fixture
def other(
    tmp_path: Path, contract: RobotContract, make_episode: Callable[..., dict[str, Any]]
) -> dict[str, str]:
    """A dataset of a robot with one camera and two joints, and its contract."""
    values = json.loads(json.dumps(contract.to_dict()))
    values["robot"] = "other-arm"
    joints = values["state"]["joints"][:2]
    values["state"]["joints"] = values["action"]["joints"] = joints
    values["limits"] = {joint: values["limits"][joint] for joint in joints}
    del values["cameras"]["wrist"]
    (tmp_path / "other.yaml").write_text(json.dumps(values))
    with EpisodeWriter.for_contract(tmp_path / "other", RobotContract.from_dict(values)) as writer:
        for seed in range(3):
            episode = make_episode(seed, length=9)
            del episode["images"]["wrist"]
            for key in ("state", "actions"):
                episode[key] = episode[key][:, :2]
            writer.add_episode(**episode)
    return {"path": str(tmp_path / "other"), "contract": str(tmp_path / "other.yaml")}


@pytest.fixture
def make_trainer(tmp_path: Path, recipe_values: dict[str, Any]) -> Callable[..., Trainer]:
    """Return a function that builds a trainer; keywords replace values of the recipe."""

    def make(name: str = "run", **overrides: Any) -> Trainer:
        values = dict(recipe_values)
        for key, value in overrides.items():
            values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
        recipe = TrainRecipe.from_dict(values)
        return Trainer(recipe, RunFolder(tmp_path / name), Console(file=io.StringIO()))

    return make
