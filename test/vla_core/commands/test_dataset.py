# SPDX-License-Identifier: MIT
"""`vla dataset`: older formats become v3.0, summaries and pictures, damage is named."""

import io
import json
import shutil

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vla_core.cli import main
from vla_core.dataset import EpisodeDataset, EpisodeWriter, Feature

LENGTHS = (6, 4, 9)
TASKS = ("pick up the cup", "wave", "pick up the cup")


def frames_of(episode, length):
    """Smooth frames that a video keeps well."""
    ramp = np.linspace(0, 30, 32)[None, None, :, None]
    level = 30 * episode + 10 * np.arange(length)[:, None, None, None]
    return np.broadcast_to(level + ramp, (length, 32, 32, 3)).astype(np.uint8)


def vectors_of(episode, length):
    return np.random.default_rng(episode).normal(size=(length, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def video_dataset(tmp_path_factory):
    """A dataset of three episodes with videos, not to be changed."""
    root = tmp_path_factory.mktemp("dataset") / "data"
    features = {
        "observation.images.front": Feature("video", (32, 32, 3)),
        "observation.state": Feature("float32", (3,), ("a", "b", "c")),
        "action": Feature("float32", (3,), ("a", "b", "c")),
        "effort": Feature("float32", (1,)),
    }
    with EpisodeWriter(root, fps=10, features=features, robot_type="toy") as writer:
        for episode, (length, task) in enumerate(zip(LENGTHS, TASKS, strict=True)):
            writer.add_episode(
                images={"front": frames_of(episode, length)},
                state=vectors_of(episode, length),
                actions=-vectors_of(episode, length),
                columns={"effort": np.full((length, 1), episode)},
                task=task,
                seed=episode,
            )
    return root


@pytest.fixture
def damaged_dataset(video_dataset, tmp_path):
    """A copy whose second episode has half a video."""
    root = tmp_path / "damaged"
    shutil.copytree(video_dataset, root)
    video = next((root / "videos").rglob("file-001.mp4"))
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    return root


@pytest.fixture
def dataset_v21(video_dataset, tmp_path):
    """The same episodes in the files of v2.1."""
    root = tmp_path / "v21"
    source = EpisodeDataset(video_dataset)
    info = json.loads((video_dataset / "meta/info.json").read_text()) | {
        "codebase_version": "v2.1",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": (
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        ),
    }
    for name in ("meta", "data/chunk-000", "videos/chunk-000/observation.images.front"):
        (root / name).mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    tasks = list(dict.fromkeys(TASKS))
    lines = [json.dumps({"task_index": i, "task": task}) for i, task in enumerate(tasks)]
    (root / "meta/tasks.jsonl").write_text("\n".join(lines) + "\n")
    lines = [
        json.dumps({"episode_index": i, "tasks": [task], "length": length})
        for i, (task, length) in enumerate(zip(TASKS, LENGTHS, strict=True))
    ]
    (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    table = pq.read_table(video_dataset / "data/chunk-000/file-000.parquet")
    for episode in range(source.num_episodes):
        rows = table.filter(pa.compute.equal(table["episode_index"], episode))
        pq.write_table(rows, root / f"data/chunk-000/episode_{episode:06d}.parquet")
        shutil.copy(
            video_dataset / f"videos/observation.images.front/chunk-000/file-{episode:03d}.mp4",
            root / f"videos/chunk-000/observation.images.front/episode_{episode:06d}.mp4",
        )
    return root


@pytest.fixture
def act_folder(tmp_path):
    """Two episodes of ACT: one with arrays, one with JPEG as OpenCV writes it."""
    folder = tmp_path / "act"
    folder.mkdir()
    for episode, length in enumerate((5, 7)):
        frames = frames_of(episode, length) + np.array([0, 20, 60], np.uint8)
        with h5py.File(folder / f"episode_{episode}.hdf5", "w") as file:
            file.attrs["sim"], file.attrs["compress"] = False, bool(episode)
            file["observations/qpos"] = vectors_of(episode, length)
            file["action"] = -vectors_of(episode, length)
            if not episode:
                file["observations/images/top"] = frames
                continue
            encoded = []
            for frame in frames:
                buffer = io.BytesIO()
                Image.fromarray(frame[..., ::-1]).save(buffer, "JPEG", quality=95, subsampling=0)
                encoded.append(np.frombuffer(buffer.getvalue(), np.uint8))
            rows = np.zeros((length, max(map(len, encoded))), np.uint8)
            for row, data in zip(rows, encoded, strict=True):
                row[: len(data)] = data
            file["observations/images/top"] = rows
    return folder


def test_dataset_of_v21_is_read_as_it_is(dataset_v21):
    dataset = EpisodeDataset(dataset_v21)
    assert (dataset.version, dataset.episode_lengths) == ("v2.1", list(LENGTHS))
    assert dataset.tasks == list(TASKS)
    for number, episode in enumerate(dataset):
        np.testing.assert_array_equal(episode.state, vectors_of(number, LENGTHS[number]))
        expected = frames_of(number, LENGTHS[number]).astype(int)
        assert np.abs(episode.images["front"] - expected).max() <= 6


def test_truncated_line_of_v21_is_named(dataset_v21):
    path = dataset_v21 / "meta/episodes.jsonl"
    path.write_text(path.read_text()[:-20])
    assert main(["dataset", "info", str(dataset_v21)]) == 2


@pytest.mark.parametrize("images", ["png", "h264"])
def test_older_format_becomes_v30_with_all_columns(dataset_v21, tmp_path, images):
    output = tmp_path / "new"
    arguments = [str(dataset_v21), "--output", str(output), "--images", images]
    assert main(["dataset", "convert", *arguments]) == 0
    old, new = EpisodeDataset(dataset_v21), EpisodeDataset(output)
    assert (new.version, new.fps, new.robot_type) == ("v3.0", 10, "toy")
    assert new.tasks == old.tasks
    for key in ("observation.state", "action", "effort"):
        np.testing.assert_array_equal(new.column(key), old.column(key))
    difference = new.episode(2).images["front"].astype(int) - old.episode(2).images["front"]
    assert np.abs(difference).max() <= (0 if images == "png" else 8)


def test_files_of_act_become_episodes(act_folder, tmp_path, capsys):
    output = tmp_path / "new"
    arguments = [str(act_folder), "--output", str(output), "--images", "png"]
    assert main(["dataset", "convert", *arguments]) == 2
    assert "--instruction" in capsys.readouterr().err
    assert main(["dataset", "convert", *arguments, "--instruction", "wave", "--fps", "25"]) == 0
    dataset = EpisodeDataset(output)
    assert (dataset.fps, dataset.camera_names, dataset.tasks) == (25, ["top"], ["wave", "wave"])
    for number, length in enumerate((5, 7)):
        episode = dataset.episode(number)
        np.testing.assert_array_equal(episode.actions, -vectors_of(number, length))
        expected = (frames_of(number, length) + np.array([0, 20, 60], np.uint8)).astype(int)
        assert np.abs(episode.images["top"] - expected).max() <= 4 * number


def test_blue_first_can_be_said(act_folder, tmp_path):
    output = tmp_path / "new"
    arguments = [str(act_folder), "--output", str(output), "--images", "png", "--bgr"]
    assert main(["dataset", "convert", *arguments, "--instruction", "wave"]) == 0
    red, _, blue = EpisodeDataset(output).episode(0).images["top"][0, 0, 0].astype(int)
    assert red - blue == 60


def test_damaged_file_of_act_is_named_and_left_out_by_choice(act_folder, tmp_path, capsys):
    path = act_folder / "episode_1.hdf5"
    path.write_bytes(path.read_bytes()[:500])
    arguments = [str(act_folder), "--output", str(tmp_path / "new"), "--instruction", "wave"]
    assert main(["dataset", "convert", *arguments]) == 2
    assert "episode_1.hdf5' is damaged" in capsys.readouterr().err
    assert main(["dataset", "convert", *arguments, "--skip-bad", "--overwrite"]) == 0
    assert "left out:" in capsys.readouterr().out
    assert EpisodeDataset(tmp_path / "new").num_episodes == 1


def test_info_summarises(video_dataset, capsys):
    assert main(["dataset", "info", str(video_dataset), "--check"]) == 0
    shown = capsys.readouterr().out
    for part in ("v3.0", "toy", "3, 19 frames", "32x32, video (h264)", "pick up the cup (2"):
        assert part in shown


def test_info_names_the_damaged_episode_and_fails(damaged_dataset, capsys):
    assert main(["dataset", "info", str(damaged_dataset), "--check"]) == 1
    shown = capsys.readouterr().out
    assert "damaged: episode 1: video" in shown
    assert "--skip-bad" in shown


def test_damaged_episode_stops_the_copy_or_is_left_out_by_name(damaged_dataset, tmp_path, capsys):
    arguments = ["dataset", "convert", str(damaged_dataset), "--output", str(tmp_path / "new")]
    assert main(arguments) == 2
    assert "file-001.mp4" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert main([*arguments, "--skip-bad", "--overwrite"]) == 0
    assert "left out: episode 1" in capsys.readouterr().out
    copied = EpisodeDataset(tmp_path / "new")
    assert [copied.metadata(index)["seed"] for index in range(2)] == [0, 2]


def test_statistics_are_those_of_numpy(video_dataset, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["dataset", "stats", str(video_dataset), "--columns", "action"]) == 0
    values = np.concatenate([-vectors_of(i, n) for i, n in enumerate(LENGTHS)]).astype(np.float64)
    shown = capsys.readouterr().out
    assert f"{np.quantile(values[:, 1], 0.99):.3g}" in shown
    assert f"{values[:, 2].std():.3g}" in shown


def test_plots_show_values_and_episodes(video_dataset, tmp_path):
    assert main(["dataset", "plot", str(video_dataset), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "observation.state.png").stat().st_size > 5000
    sheet = np.asarray(Image.open(tmp_path / "episodes.png").convert("RGB"))
    tiles = sheet[12 + 24 + 40, 12 + 16 : 12 + 6 * 96 : 96, 0].astype(int)
    assert (np.diff(tiles) > 0).all()


def test_plot_of_a_damaged_dataset_says_so(damaged_dataset, tmp_path, capsys):
    assert main(["dataset", "plot", str(damaged_dataset), "--output", str(tmp_path)]) == 1
    assert "damaged: episode 1" in capsys.readouterr().out
