# SPDX-License-Identifier: MIT
"""A dataset that LeRobot wrote is read; fixtures/lerobot_v3/README.md has the making."""

import json
from pathlib import Path

import numpy as np
import pytest

from vla_core.dataset import EpisodeDataset

ROOT = Path(__file__).parent / "fixtures" / "lerobot_v3" / "dataset"
LENGTHS = (12, 11)
TASKS = ["pick up the red block", "pick up the blue block"]


def values(episode: int) -> np.ndarray:
    """Return the states of an episode, float32 [T, 3]."""
    t = np.arange(LENGTHS[episode])
    return np.stack([t / 8, -t / 4, episode + t / 16], axis=1).astype(np.float32)


def pixels(episode: int) -> np.ndarray:
    """Return the frames of camera front, int [T, 32, 32, 3]."""
    t, row, column, channel = np.indices((LENGTHS[episode], 32, 32, 3))
    return 20 + 2 * row + 2 * column + 10 * channel + 3 * t + 30 * episode


@pytest.fixture(scope="module")
def dataset() -> EpisodeDataset:
    """The dataset as LeRobot wrote it."""
    return EpisodeDataset(ROOT)


def test_lerobot_dataset_describes_itself(dataset):
    assert (dataset.version, dataset.fps, dataset.robot_type) == ("v3.0", 10, "small-arm")
    assert dataset.episode_lengths == list(LENGTHS)
    assert dataset.camera_names == ["front", "wrist"]
    assert dataset.features["observation.state"].names == ("joint_1", "joint_2", "gripper_joint")
    assert dataset.features["observation.images.front"].dtype == "video"
    assert dataset.features["observation.images.wrist"].dtype == "image"


def test_tasks_are_those_that_lerobot_was_given(dataset):
    assert dataset.tasks == TASKS
    assert dataset.instructions == TASKS
    assert dataset.column("task_index").tolist() == [0] * 12 + [1] * 11


@pytest.mark.parametrize("number", [0, 1])
def test_arrays_are_those_that_lerobot_was_given(dataset, number):
    episode = dataset.episode(number)
    np.testing.assert_array_equal(episode.state, values(number))
    np.testing.assert_array_equal(episode.actions, values(number) + np.float32(0.125))
    np.testing.assert_array_equal(episode.images["wrist"], 255 - pixels(number))
    # The codec loses a little; a frame differs from the next by 3.
    lost = np.abs(episode.images["front"].astype(int) - pixels(number))
    assert lost.max() <= 6
    assert lost.mean(axis=(1, 2, 3)).max() < 1.2
    assert episode.metadata == {}


def test_indices_and_times_are_those_of_the_frames(dataset):
    frame = np.concatenate([np.arange(length) for length in LENGTHS])
    np.testing.assert_array_equal(dataset.column("index"), np.arange(23))
    np.testing.assert_array_equal(dataset.column("frame_index"), frame)
    np.testing.assert_array_equal(dataset.column("episode_index"), np.repeat([0, 1], LENGTHS))
    np.testing.assert_allclose(dataset.column("timestamp"), frame / 10, rtol=1e-6)


@pytest.mark.parametrize("key", ["observation.state", "action"])
def test_statistics_are_those_that_lerobot_stored(dataset, key):
    stored = json.loads((ROOT / "meta/stats.json").read_text())[key]
    statistics = dataset.statistics(key)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(getattr(statistics, name), stored[name], rtol=1e-5, atol=1e-6)
