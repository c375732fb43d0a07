# SPDX-License-Identifier: MIT
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from vla_core.dataset import EpisodeDataset, EpisodeWriter
from vla_core.errors import DatasetError

_DATA_FILE = "data/chunk-000/file-000.parquet"


def _edit_info(root, **changes):
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_episodes_come_back_as_they_were_written(dataset_root, episodes):
    for read, written in zip(EpisodeDataset(dataset_root), episodes, strict=True):
        for name, frames in written["images"].items():
            np.testing.assert_array_equal(read.images[name], frames)
        np.testing.assert_array_equal(read.state, written["state"])
        np.testing.assert_array_equal(read.actions, written["actions"])
        assert read.task == written["task"]
        assert read.metadata == {"seed": written["seed"]}


def test_dataset_describes_itself(dataset_root):
    dataset = EpisodeDataset(dataset_root)
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (3, 15, 10)
    assert dataset.episode_lengths == [5, 3, 7]
    assert dataset.camera_names == ["front", "wrist"]
    assert dataset.tasks[1] == "pick up the blue block"
    assert dataset.features["observation.images.front"].shape == (8, 12, 3)


def test_column_holds_all_frames_in_order(dataset_root, episodes):
    expected = np.concatenate([episode["actions"] for episode in episodes])
    np.testing.assert_array_equal(EpisodeDataset(dataset_root).column("action"), expected)


def test_statistics_are_those_of_numpy(dataset_root, episodes):
    state = np.concatenate([episode["state"] for episode in episodes])
    statistics = EpisodeDataset(dataset_root).statistics("observation.state")
    np.testing.assert_allclose(statistics.mean, state.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics.q99, np.quantile(state, 0.99, axis=0), rtol=1e-6)


def test_frames_are_found_whatever_the_row_groups(dataset_root, episodes):
    table = pq.read_table(dataset_root / _DATA_FILE)
    pq.write_table(table, dataset_root / _DATA_FILE, row_group_size=4)
    read = EpisodeDataset(dataset_root).episode(1)
    np.testing.assert_array_equal(read.actions, episodes[1]["actions"])


def test_missing_dataset_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere' is no LeRobotDataset.*info\.json"):
        EpisodeDataset(tmp_path / "nowhere")


def test_interrupted_recording_is_reported_as_such(tmp_path, features, make_episode):
    EpisodeWriter(tmp_path / "data", fps=10, features=features).add_episode(**make_episode(0))
    with pytest.raises(DatasetError, match=r"never finished.*data\.partial"):
        EpisodeDataset(tmp_path / "data")


def test_truncated_data_file_is_named(dataset_root):
    content = (dataset_root / _DATA_FILE).read_bytes()
    (dataset_root / _DATA_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"file-000\.parquet' is damaged"):
        EpisodeDataset(dataset_root)


def test_damaged_page_is_named_with_its_file(dataset_root):
    content = bytearray((dataset_root / _DATA_FILE).read_bytes())
    content[4:400] = b"\xff" * 396
    (dataset_root / _DATA_FILE).write_bytes(bytes(content))
    with pytest.raises(DatasetError, match=r"file-000\.parquet"):
        EpisodeDataset(dataset_root).episode(0)


def test_missing_data_file_is_named(dataset_root):
    (dataset_root / _DATA_FILE).unlink()
    with pytest.raises(DatasetError, match=r"file-000\.parquet' is missing"):
        EpisodeDataset(dataset_root)


@pytest.mark.parametrize("name", ["info.json", "tasks.parquet", "episodes"])
def test_missing_metadata_is_named(dataset_root, name):
    (dataset_root / "meta" / name).rename(dataset_root / "elsewhere")
    with pytest.raises(DatasetError, match=name):
        EpisodeDataset(dataset_root)


def test_other_format_version_is_refused(dataset_root):
    _edit_info(dataset_root, codebase_version="v1.6")
    with pytest.raises(DatasetError, match=r"'v1\.6', expected v3\.x, v2\.1 or v2\.0; convert"):
        EpisodeDataset(dataset_root)


def test_broken_json_is_named(dataset_root):
    (dataset_root / "meta/info.json").write_text('{"fps": 10')
    with pytest.raises(DatasetError, match=r"info\.json' is not valid JSON"):
        EpisodeDataset(dataset_root)


def test_missing_feature_is_named_with_those_available(dataset_root):
    features = json.loads((dataset_root / "meta/info.json").read_text())["features"]
    features.pop("action")
    _edit_info(dataset_root, features=features)
    with pytest.raises(
        DatasetError, match=r"no feature 'action'; available: .*observation\.state"
    ):
        EpisodeDataset(dataset_root)


def test_column_missing_from_the_file_is_named(dataset_root):
    table = pq.read_table(dataset_root / _DATA_FILE).drop_columns(["observation.state"])
    pq.write_table(table, dataset_root / _DATA_FILE)
    with pytest.raises(DatasetError, match=r"lacks the columns observation\.state"):
        EpisodeDataset(dataset_root).episode(0)


def test_episode_count_must_match_the_info(dataset_root):
    _edit_info(dataset_root, total_episodes=4)
    with pytest.raises(DatasetError, match="counts 4 episodes, meta/episodes lists 3"):
        EpisodeDataset(dataset_root)


def test_lost_frames_are_noticed(dataset_root):
    table = pq.read_table(dataset_root / _DATA_FILE)
    pq.write_table(table.slice(0, 12), dataset_root / _DATA_FILE)
    with pytest.raises(DatasetError, match="holds 12 frames, meta/episodes lists 15"):
        EpisodeDataset(dataset_root)


def test_episode_out_of_range_is_refused(dataset_root):
    with pytest.raises(DatasetError, match=r"episode 3 is not in .* which has 3"):
        EpisodeDataset(dataset_root).episode(3)


def test_video_that_no_episode_has_is_named(dataset_root):
    features = json.loads((dataset_root / "meta/info.json").read_text())["features"]
    features["observation.images.front"]["dtype"] = "video"
    _edit_info(dataset_root, features=features)
    with pytest.raises(DatasetError, match=r"lacks the columns videos/observation\.images\.front"):
        EpisodeDataset(dataset_root)


def test_image_of_another_size_is_named(dataset_root):
    features = json.loads((dataset_root / "meta/info.json").read_text())["features"]
    features["observation.images.front"]["shape"] = [16, 12, 3]
    _edit_info(dataset_root, features=features)
    with pytest.raises(DatasetError, match=r"frame 0 of 'observation\.images\.front'"):
        EpisodeDataset(dataset_root).episode(0)
