# SPDX-License-Identifier: MIT
"""Small real datasets for the tests of this folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_core.dataset import EpisodeWriter, Feature

_JOINTS = ("joint_1", "joint_2", "gripper_joint")
_TASKS = ("pick up the red block", "pick up the blue block")


@pytest.fixture
def features() -> dict[str, Feature]:
    """Two small cameras of different size, three joints."""
    return {
        "observation.images.front": Feature("image", (8, 12, 3), ("height", "width", "channels")),
        "observation.images.wrist": Feature("image", (6, 6, 3), ("height", "width", "channels")),
        "observation.state": Feature("float32", (3,), _JOINTS),
        "action": Feature("float32", (3,), _JOINTS),
    }


@pytest.fixture
def make_episode() -> Callable[..., dict[str, Any]]:
    """Return a function that makes the arguments of one ``add_episode`` call."""

    def make(seed: int, length: int = 5, **overrides: Any) -> dict[str, Any]:
        generator = np.random.default_rng(seed)
        return {
            "images": {
                "front": generator.integers(0, 256, (length, 8, 12, 3), dtype=np.uint8),
                "wrist": generator.integers(0, 256, (length, 6, 6, 3), dtype=np.uint8),
            },
            "state": generator.normal(size=(length, 3)).astype(np.float32),
            "actions": generator.normal(size=(length, 3)).astype(np.float32),
            "task": _TASKS[seed % 2],
            "seed": seed,
        } | overrides

    return make


@pytest.fixture
def episodes(make_episode: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """Three episodes of 5, 3 and 7 frames."""
    return [make_episode(seed, length) for seed, length in enumerate((5, 3, 7))]


@pytest.fixture
def dataset_root(
    tmp_path: Path, features: dict[str, Feature], episodes: list[dict[str, Any]]
) -> Path:
    """A finished dataset of the three episodes."""
    with EpisodeWriter(tmp_path / "data", fps=10, features=features) as writer:
        for episode in episodes:
            writer.add_episode(**episode)
    return tmp_path / "data"
