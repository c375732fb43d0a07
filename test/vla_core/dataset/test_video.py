# SPDX-License-Identifier: MIT
"""Cameras stored as video: the frames in order, lossy within bounds, damage named."""

import json

import numpy as np
import pytest

from vla_core.dataset import EpisodeDataset, EpisodeWriter, Feature
from vla_core.dataset.video import VideoWriter, read_frames
from vla_core.errors import DatasetError

CAMERA = "observation.images.front"


def smooth_frames(num_frames, height=32, width=48):
    """Frames whose brightness tells their number."""
    ramp = np.linspace(0, 20, width)[None, None, :, None]
    levels = 20 + 10 * np.arange(num_frames)[:, None, None, None]
    return np.broadcast_to(levels + ramp, (num_frames, height, width, 3)).astype(np.uint8)


@pytest.fixture
def features():
    return {
        CAMERA: Feature("video", (32, 48, 3), ("height", "width", "channels")),
        "observation.state": Feature("float32", (2,), ("a", "b")),
        "action": Feature("float32", (2,), ("a", "b")),
    }


@pytest.fixture
def make_root(tmp_path, features):
    def make(codec="h264", lengths=(7, 4)):
        with EpisodeWriter(tmp_path / "data", fps=10, features=features, codec=codec) as writer:
            for length in lengths:
                writer.add_episode(
                    images={"front": smooth_frames(length)},
                    state=np.zeros((length, 2)),
                    actions=np.ones((length, 2)),
                    task="pick",
                )
        return tmp_path / "data"

    return make


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_frames_come_back_in_order_within_what_the_codec_loses(make_root, codec):
    dataset = EpisodeDataset(make_root(codec))
    for index, length in enumerate((7, 4)):
        read = dataset.episode(index).images["front"].astype(int)
        assert np.abs(read - smooth_frames(length)).max() <= 6


def test_info_describes_the_video_as_lerobot_does(make_root):
    info = json.loads((make_root() / "meta/info.json").read_text())
    assert info["video_path"].startswith("videos/{video_key}/")
    described = info["features"][CAMERA]
    assert described["dtype"] == "video"
    assert described["info"]["video.codec"] == "h264"
    assert (described["info"]["video.fps"], described["info"]["video.height"]) == (10, 32)


def test_episode_that_begins_within_a_file_is_found(tmp_path):
    writer = VideoWriter(tmp_path / "long.mp4", 10)
    frames = smooth_frames(20)
    for frame in frames:
        writer.add(frame)
    writer.close()
    read = list(read_frames(tmp_path / "long.mp4", 5, start_s=1.3, fps=10))
    assert np.abs(np.stack(read).astype(int) - frames[13:18]).max() <= 6


def test_truncated_video_is_named(make_root):
    root = make_root()
    path = next((root / "videos").rglob("file-001.mp4"))
    path.write_bytes(path.read_bytes()[:300])
    dataset = EpisodeDataset(root)
    dataset.episode(0)
    with pytest.raises(DatasetError, match=r"file-001\.mp4' is missing or damaged"):
        dataset.episode(1)
    assert [index for index, problem in dataset.find_damaged() if problem] == [1]


def test_video_with_too_few_frames_is_named(tmp_path):
    writer = VideoWriter(tmp_path / "short.mp4", 10)
    for frame in smooth_frames(3):
        writer.add(frame)
    writer.close()
    with pytest.raises(DatasetError, match=r"has 3 frames from 0\.000 s on, the dataset lists 5"):
        list(read_frames(tmp_path / "short.mp4", 5, fps=10))


def test_missing_video_is_an_error_or_a_named_omission(make_root):
    root = make_root()
    next((root / "videos").rglob("file-000.mp4")).unlink()
    with pytest.raises(DatasetError, match=r"file-000\.mp4' of episode 0 is missing"):
        EpisodeDataset(root)
    dataset = EpisodeDataset(root, skip_damaged=True)
    assert list(dataset.skipped) == [0]
    assert dataset.episode_numbers == [1]
    assert len(dataset.episode(0).actions) == 4


def test_video_of_odd_size_is_refused_with_the_alternative(tmp_path):
    with pytest.raises(DatasetError, match=r"even sides, the frames are 47x31; store .* images"):
        VideoWriter(tmp_path / "odd.mp4", 10).add(np.zeros((31, 47, 3), np.uint8))
