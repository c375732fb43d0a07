# SPDX-License-Identifier: MIT
"""`vla dataset`: older formats become v3.0, summaries and pictures, damage is named."""

import shutil
from pathlib import Path

import h5py
import numpy as np
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
def dataset_v21(tmp_path):
    """A copy of a dataset that LeRobot wrote as v2.1."""
    root = tmp_path / "v21"
    shutil.copytree(Path(__file__).parents[1] / "dataset/fixtures/lerobot/v2.1", root)
    return root


@pytest.fixture
def act_folder(tmp_path):
    """Two episodes as the recorders of ACT (arrays) and of ALOHA (padded JPEG) write them."""
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path / "act"
    folder.mkdir()
    for episode, length in enumerate((5, 7)):
        frames = frames_of(episode, length) + np.array([0, 20, 60], np.uint8)
        with h5py.File(folder / f"episode_{episode}.hdf5", "w", rdcc_nbytes=2 * 1024**2) as file:
            file.attrs["sim"] = episode == 0
            observations = file.create_group("observations")
            images = observations.create_group("images")
            observations.create_dataset("qpos", (length, 3), "f4")[...] = vectors_of(
                episode, length
            )
            observations.create_dataset("qvel", (length, 3), "f4")
            file.create_dataset("action", (length, 3), "f4")[...] = -vectors_of(episode, length)
            if episode == 0:
                images.create_dataset("top", frames.shape, "uint8", chunks=(1, *frames.shape[1:]))
                images["top"][...] = frames
                continue
            file.attrs["compress"] = True
            observations.create_dataset("effort", (length, 3), "f4")
            file.create_dataset("base_action", (length, 2), "f4")
            encoded = [cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, 50])[1] for f in frames]
            sizes = [len(data) for data in encoded]
            images.create_dataset("top", (length, max(sizes)), "uint8", chunks=(1, max(sizes)))
            for row, data in enumerate(encoded):
                images["top"][row, : len(data)] = data
            file.create_dataset("compress_len", (1, length), "f4")[...] = [sizes]
    return folder


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
    assert (new.version, new.fps, new.robot_type) == ("v3.0", 10, "small-arm")
    assert new.tasks == old.tasks
    for key in ("observation.state", "action"):
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


@pytest.mark.parametrize("option", [["--instruction", "wave"], ["--fps", "25"], ["--bgr"]])
def test_what_only_files_of_act_lack_is_refused_for_a_dataset(
    video_dataset, tmp_path, capsys, option
):
    arguments = [str(video_dataset), "--output", str(tmp_path / "new"), *option]
    assert main(["dataset", "convert", *arguments]) == 2
    assert f"{option[0]}: only for ACT's HDF5 files" in capsys.readouterr().err


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
