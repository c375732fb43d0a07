# SPDX-License-Identifier: MIT
import json

import numpy as np
import pytest
import torch

from vla_core.dataset import EpisodeDataset
from vla_core.errors import DatasetError
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.training.training_data import load_training_data, require_fit


@pytest.fixture
def dataset(dataset_root):
    return EpisodeDataset(dataset_root)


@pytest.fixture
def pipeline(dataset, contract):
    return ProcessingPipeline(
        contract,
        dataset.statistics("observation.state"),
        dataset.statistics("action"),
        image_size=32,
        chunk_size=4,
    )


def _edit_features(root, edit):
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    edit(info["features"])
    path.write_text(json.dumps(info))


def test_targets_are_the_normalised_actions_of_the_next_frames(dataset, pipeline):
    data = load_training_data(dataset, pipeline, validation_fraction=0.0, seed=0)
    target = data.targets(torch.tensor([14]))
    expected = pipeline.normalize_actions(dataset.episode(1).actions[2:6].astype(np.float64))
    np.testing.assert_allclose(target["actions"][0], expected, atol=1e-6)
    assert target["action_is_pad"].tolist() == [[False] * 4]


def test_last_frame_of_an_episode_has_one_action_and_padding(dataset, pipeline):
    data = load_training_data(dataset, pipeline, validation_fraction=0.0, seed=0)
    assert data.targets(torch.tensor([11]))["action_is_pad"].tolist() == [
        [False, True, True, True]
    ]


def test_held_out_episodes_are_whole_and_not_trained_on(dataset, pipeline):
    data = load_training_data(dataset, pipeline, validation_fraction=0.3, seed=1)
    train = {frame // 12 for frame in data.train_frames.tolist()}
    held_out = {frame // 12 for frame in data.validation_frames.tolist()}
    assert len(held_out) == 2
    assert train | held_out == set(range(6))
    assert not train & held_out


def test_holding_out_everything_is_refused(dataset, pipeline):
    with pytest.raises(DatasetError, match="leaves none to train on"):
        load_training_data(dataset, pipeline, validation_fraction=0.99, seed=0)


def test_dataset_of_the_robot_fits(dataset, contract):
    require_fit(dataset, contract)


def test_missing_camera_is_named(dataset_root, contract):
    _edit_features(dataset_root, lambda features: features.pop("observation.images.wrist"))
    with pytest.raises(DatasetError, match=r"camera 'wrist' was not recorded \(recorded: front\)"):
        require_fit(EpisodeDataset(dataset_root), contract)


def test_other_joint_order_is_named(dataset_root, contract):
    _edit_features(dataset_root, lambda features: features["action"]["names"].reverse())
    with pytest.raises(DatasetError, match="'action' holds gripper_joint, joint_2, joint_1"):
        require_fit(EpisodeDataset(dataset_root), contract)
