# SPDX-License-Identifier: MIT
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from vla_core.dataset import EpisodeDataset, EpisodeWriter, features_from_contract
from vla_core.errors import DatasetError
from vla_core.processing.contract import load_contract


def test_info_names_the_format_and_counts_what_was_written(dataset_root):
    info = json.loads((dataset_root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 15, 2)
    assert info["features"]["action"]["names"] == ["joint_1", "joint_2", "gripper_joint"]
    assert info["splits"] == {"train": "0:3"}


def test_frames_are_indexed_within_episode_and_dataset(dataset_root):
    table = pq.read_table(dataset_root / "data/chunk-000/file-000.parquet")
    assert table["index"].to_pylist() == list(range(15))
    assert table["frame_index"].to_pylist() == [*range(5), *range(3), *range(7)]
    assert table["episode_index"].to_pylist() == [0] * 5 + [1] * 3 + [2] * 7
    assert table["timestamp"].to_pylist()[:3] == pytest.approx([0.0, 0.1, 0.2])


def test_images_are_declared_for_hugging_face_datasets(dataset_root):
    schema = pq.read_schema(dataset_root / "data/chunk-000/file-000.parquet")
    declared = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert declared["observation.images.front"] == {"_type": "Image"}
    assert declared["action"]["length"] == 3


def test_task_index_points_into_the_task_table(dataset_root):
    tasks = pq.read_table(dataset_root / "meta/tasks.parquet").to_pydict()
    by_index = dict(zip(tasks["task_index"], tasks["task"], strict=True))
    frames = pq.read_table(dataset_root / "data/chunk-000/file-000.parquet")["task_index"]
    assert by_index[frames.to_pylist()[0]] == "pick up the red block"
    assert by_index[frames.to_pylist()[5]] == "pick up the blue block"


def test_stored_vector_statistics_are_those_of_numpy(dataset_root, episodes):
    actions = np.concatenate([episode["actions"] for episode in episodes]).astype(np.float64)
    stored = json.loads((dataset_root / "meta/stats.json").read_text())["action"]
    np.testing.assert_allclose(stored["mean"], actions.mean(axis=0))
    np.testing.assert_allclose(stored["std"], actions.std(axis=0))
    np.testing.assert_allclose(stored["q90"], np.quantile(actions, 0.9, axis=0))
    assert stored["count"] == [15]


def test_stored_image_statistics_are_those_of_the_sampled_pixels(dataset_root, episodes):
    pixels = np.concatenate([episode["images"]["front"][:, ::2, ::2] for episode in episodes])
    stored = json.loads((dataset_root / "meta/stats.json").read_text())["observation.images.front"]
    scaled = pixels.reshape(-1, 3) / 255.0
    np.testing.assert_allclose(np.ravel(stored["mean"]), scaled.mean(axis=0))
    np.testing.assert_allclose(np.ravel(stored["std"]), scaled.std(axis=0))
    np.testing.assert_allclose(np.ravel(stored["max"]), scaled.max(axis=0))
    assert np.shape(stored["q50"]) == (3, 1, 1)


def test_data_files_stay_below_their_size_limit(tmp_path, features, make_episode):
    features["observation.images.front"] = type(features["action"])("image", (128, 128, 3))
    noise = np.random.default_rng(0).integers(0, 256, (20, 128, 128, 3), dtype=np.uint8)
    root = tmp_path / "data"
    with EpisodeWriter(root, fps=10, features=features, data_file_size_mb=2) as writer:
        for seed in range(3):
            episode = make_episode(seed, 20)
            writer.add_episode(**episode | {"images": episode["images"] | {"front": noise}})
    sizes = [path.stat().st_size for path in sorted((root / "data").glob("*/*.parquet"))]
    assert len(sizes) > 1
    assert max(sizes) <= 2 * 1024**2
    np.testing.assert_array_equal(EpisodeDataset(root).episode(2).images["front"], noise)


def test_existing_dataset_is_not_overwritten(dataset_root, features):
    with pytest.raises(DatasetError, match=r"already exists.*--overwrite"):
        EpisodeWriter(dataset_root, fps=10, features=features)


def test_overwritten_dataset_stays_until_its_successor_is_complete(
    dataset_root, features, make_episode
):
    writer = EpisodeWriter(dataset_root, fps=10, features=features, overwrite=True)
    writer.add_episode(**make_episode(9))
    assert EpisodeDataset(dataset_root).num_episodes == 3
    writer.finish()
    assert EpisodeDataset(dataset_root).episode(0).metadata == {"seed": 9}


def test_interrupted_recording_can_be_resumed(tmp_path, features, make_episode):
    EpisodeWriter(tmp_path / "data", fps=10, features=features).add_episode(**make_episode(0))
    writer = EpisodeWriter(tmp_path / "data", fps=10, features=features, resume=True)
    assert (writer.num_episodes, writer.last_metadata) == (1, {"seed": 0})
    writer.add_episode(**make_episode(1))
    writer.finish()
    seeds = [episode.metadata["seed"] for episode in EpisodeDataset(tmp_path / "data")]
    assert seeds == [0, 1]


def test_interrupted_recording_is_not_discarded_silently(tmp_path, features, make_episode):
    EpisodeWriter(tmp_path / "data", fps=10, features=features).add_episode(**make_episode(0))
    with pytest.raises(DatasetError, match=r"interrupted after 1 episodes.*--resume"):
        EpisodeWriter(tmp_path / "data", fps=10, features=features)


def test_recording_with_other_features_is_not_resumed(tmp_path, features, make_episode):
    EpisodeWriter(tmp_path / "data", fps=10, features=features).add_episode(**make_episode(0))
    with pytest.raises(DatasetError, match=r"begun with another .*fps"):
        EpisodeWriter(tmp_path / "data", fps=20, features=features, resume=True)


def test_exception_during_recording_leaves_no_dataset(tmp_path, features, make_episode):
    writer = EpisodeWriter(tmp_path / "data", fps=10, features=features)
    with pytest.raises(DatasetError), writer:
        writer.add_episode(**make_episode(0), length=1)
    assert list(tmp_path.iterdir()) == []


def test_damaged_staged_episode_is_named(tmp_path, features, make_episode):
    writer = EpisodeWriter(tmp_path / "data", fps=10, features=features)
    writer.add_episode(**make_episode(0))
    staged = tmp_path / "data.partial/staged/episode-000000/frames.parquet"
    staged.write_bytes(staged.read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"frames\.parquet' is damaged"):
        writer.finish()
    assert not (tmp_path / "data").exists()


def test_dataset_without_episodes_is_refused(tmp_path, features):
    with pytest.raises(DatasetError, match="no episode"):
        EpisodeWriter(tmp_path / "data", fps=10, features=features).finish()


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        ({"actions": np.zeros((4, 3), np.float32)}, r"with the same T > 0 in every column"),
        ({"actions": np.zeros((5, 2), np.float32)}, r"'action' must be \[T, 3\].*got \[5, 2\]"),
        ({"state": np.full((5, 3), np.nan)}, "'observation.state' holds NaN"),
        ({"images": {"front": np.zeros((5, 8, 12, 3), np.uint8)}}, "observation.images.wrist"),
        ({"task": ""}, "task must be a non-empty instruction"),
        ({"length": 5}, "extra 'length'"),
    ],
)
def test_episode_that_does_not_fit_is_refused(tmp_path, features, make_episode, overrides, cause):
    writer = EpisodeWriter(tmp_path / "data", fps=10, features=features)
    with pytest.raises(DatasetError, match=cause):
        writer.add_episode(**make_episode(0) | overrides)
    assert writer.num_episodes == 0


def test_float_images_are_refused(tmp_path, features, make_episode):
    writer = EpisodeWriter(tmp_path / "data", fps=10, features=features)
    episode = make_episode(0)
    images = {name: frames / 255.0 for name, frames in episode["images"].items()}
    with pytest.raises(DatasetError, match="must be uint8"):
        writer.add_episode(**episode | {"images": images})


def test_rate_that_is_no_whole_number_is_refused(tmp_path, features):
    with pytest.raises(DatasetError, match=r"fps must be a positive whole number, got 12\.5"):
        EpisodeWriter(tmp_path / "data", fps=12.5, features=features)


def test_columns_of_a_contract_follow_its_cameras_and_joints():
    contract = load_contract("sim")
    features = features_from_contract(contract)
    assert features["observation.images.wrist"].shape == (192, 192, 3)
    assert features["observation.state"].names == contract.state.joints
    assert features["action"].shape == (len(contract.action.joints),)


def test_writer_takes_rate_and_robot_from_the_contract(tmp_path):
    EpisodeWriter.for_contract(tmp_path / "data", load_contract("sim"))
    started = json.loads((tmp_path / "data.partial/recording.json").read_text())
    assert (started["fps"], started["robot_type"]) == (10, "sim")
