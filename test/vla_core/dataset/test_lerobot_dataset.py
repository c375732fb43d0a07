# SPDX-License-Identifier: MIT
"""Datasets that LeRobot wrote are read; fixtures/lerobot/README.md has the making."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vla_core.dataset import EpisodeDataset
from vla_core.errors import DatasetError

ROOT = Path(__file__).parent / "fixtures" / "lerobot"
RED, BLUE = "pick up the red block", "pick up the blue block"
# The instruction of LeRobot's third episode changes after 6 of 10 frames.
LENGTHS = (12, 11, 6, 4)
NUMBERS = (0, 1, 2, 2)
TASKS = [RED, BLUE, RED, BLUE]
FRAMES = [range(12), range(11), range(6), range(6, 10)]


def values(place: int) -> np.ndarray:
    """Return the states of an episode as it is read, float32 [T, 3]."""
    t = np.array(FRAMES[place])
    return np.stack([t / 8, -t / 4, NUMBERS[place] + t / 16], axis=1).astype(np.float32)


def pixels(place: int) -> np.ndarray:
    """Return the frames of camera front, int [T, 32, 32, 3]."""
    t = np.array(FRAMES[place])[:, None, None, None]
    row, column, channel = np.indices((32, 32, 3))
    return 20 + 2 * row + 2 * column + 10 * channel + 3 * t + 30 * NUMBERS[place]


@pytest.fixture(scope="module", params=["v3.0", "v2.1"])
def dataset(request) -> EpisodeDataset:
    """A dataset as LeRobot wrote it."""
    return EpisodeDataset(ROOT / request.param)


def test_lerobot_dataset_describes_itself(dataset):
    assert (dataset.version, dataset.fps) == (dataset.root.name, 10)
    assert dataset.robot_type == "small-arm"
    assert dataset.camera_names == ["front", "wrist"]
    assert dataset.features["observation.state"].names == ("joint_1", "joint_2", "gripper_joint")
    assert dataset.features["observation.images.front"].dtype == "video"
    assert dataset.features["observation.images.wrist"].dtype == "image"


def test_an_episode_whose_instruction_changes_is_read_as_two(dataset):
    assert dataset.episode_lengths == list(LENGTHS)
    assert dataset.episode_numbers == list(NUMBERS)
    assert dataset.tasks == TASKS


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_unlisted_instruction_is_named(version, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(ROOT / version, root)
    if version == "v2.1":
        (root / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "wave"}\n')
        with pytest.raises(DatasetError, match=r"episode_000002.parquet' has task_index 1"):
            EpisodeDataset(root)
    else:
        (root / "meta/tasks.parquet").write_bytes(b"PAR1")
        with pytest.raises(DatasetError, match=r"tasks.parquet' is damaged"):
            EpisodeDataset(root)


def test_tasks_are_those_that_lerobot_was_given(dataset):
    assert dataset.instructions == [RED, BLUE]
    assert dataset.column("task_index").tolist() == [0] * 12 + [1] * 11 + [0] * 6 + [1] * 4


@pytest.mark.parametrize("place", range(4))
def test_arrays_are_those_that_lerobot_was_given(dataset, place):
    episode = dataset.episode(place)
    np.testing.assert_array_equal(episode.state, values(place))
    np.testing.assert_array_equal(episode.actions, values(place) + np.float32(0.125))
    np.testing.assert_array_equal(episode.images["wrist"], 255 - pixels(place))
    # The codec loses a little; a frame differs from the next by 3.
    lost = np.abs(episode.images["front"].astype(int) - pixels(place))
    assert lost.max() <= 6
    assert lost.mean(axis=(1, 2, 3)).max() < 1.2
    assert episode.task == TASKS[place]
    assert episode.metadata == {}


def test_indices_and_times_are_those_of_the_frames(dataset):
    frame = np.concatenate([np.array(frames) for frames in FRAMES])
    np.testing.assert_array_equal(dataset.column("index"), np.arange(33))
    np.testing.assert_array_equal(dataset.column("frame_index"), frame)
    np.testing.assert_array_equal(dataset.column("episode_index"), np.repeat(NUMBERS, LENGTHS))
    np.testing.assert_allclose(dataset.column("timestamp"), frame / 10, rtol=1e-6)


@pytest.mark.parametrize("key", ["observation.state", "action"])
def test_statistics_are_those_that_lerobot_stored(dataset, key):
    statistics = dataset.statistics(key)
    if dataset.version == "v3.0":
        stored = json.loads((dataset.root / "meta/stats.json").read_text())[key]
        for name in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(
                getattr(statistics, name), stored[name], rtol=1e-5, atol=1e-6
            )
        return
    lines = (dataset.root / "meta/episodes_stats.jsonl").read_text().splitlines()
    episodes = [json.loads(line)["stats"][key] for line in lines]
    np.testing.assert_allclose(statistics.min, np.min([e["min"] for e in episodes], axis=0))
    np.testing.assert_allclose(statistics.max, np.max([e["max"] for e in episodes], axis=0))
    counts = np.ravel([e["count"] for e in episodes])
    mean = np.average([e["mean"] for e in episodes], axis=0, weights=counts)
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-5, atol=1e-6)
