# SPDX-License-Identifier: MIT
import numpy as np
import pytest

from vla_core.cli import EXIT_INTERRUPTED, EXIT_USER_ERROR, main
from vla_core.commands.record_sim import SEED_LIMIT
from vla_core.dataset import EpisodeDataset
from vla_core.sim.recording import ExpertRecorder


def record(root, *arguments):
    return main(["record-sim", "--output", str(root), *arguments])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two scenes in one go."""
    root = tmp_path_factory.mktemp("record") / "whole"
    assert record(root, "--episodes", "2") == 0
    return root


def test_command_records_the_scenes_that_it_was_asked_for(recorded):
    dataset = EpisodeDataset(recorded)
    assert [episode.metadata["seed"] for episode in dataset] == [0, 1]
    assert dataset.camera_names == ["front", "wrist"]
    assert all("block" in task or "cube" in task for task in dataset.tasks)


def test_interrupted_recording_goes_on_to_the_same_dataset(recorded, tmp_path, monkeypatch):
    def interrupted_at_the_second(recorder, seed, complete=ExpertRecorder.record):
        if seed == 1:
            raise KeyboardInterrupt
        return complete(recorder, seed)

    with monkeypatch.context() as patch:
        patch.setattr(ExpertRecorder, "record", interrupted_at_the_second)
        assert record(tmp_path / "data", "--episodes", "2") == EXIT_INTERRUPTED
    assert not (tmp_path / "data").exists()
    assert record(tmp_path / "data", "--episodes", "2", "--resume") == 0
    resumed = EpisodeDataset(tmp_path / "data")
    for episode, expected in zip(resumed, EpisodeDataset(recorded), strict=True):
        assert (episode.task, episode.metadata) == (expected.task, expected.metadata)
        np.testing.assert_array_equal(episode.actions, expected.actions)
        np.testing.assert_array_equal(episode.images["wrist"], expected.images["wrist"])


def test_existing_dataset_is_not_replaced_unasked(recorded, capsys):
    assert record(recorded, "--episodes", "1") == EXIT_USER_ERROR
    assert str(recorded) in capsys.readouterr().err
    assert EpisodeDataset(recorded).num_episodes == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--first-seed", str(SEED_LIMIT - 1), "--episodes", "2"),
        ("--first-seed", "-1"),
        ("--episodes", "0"),
    ],
)
def test_scenes_that_evaluation_uses_are_refused(tmp_path, capsys, arguments):
    assert record(tmp_path / "data", *arguments) == EXIT_USER_ERROR
    assert f"demonstrations take seeds from 0 to {SEED_LIMIT - 1}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
