# SPDX-License-Identifier: MIT
import struct
import sys
from types import SimpleNamespace

import pytest

from vla_core.errors import ConfigError
from vla_core.training.trackers import TensorBoard, WandB


def _scalars(folder):
    """Read TFRecords: length, its checksum, an event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    scalars = []
    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            scalars += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            content = content[16 + length :]
    return scalars


def test_event_file_has_every_figure_of_every_step(tmp_path):
    board = TensorBoard(tmp_path, first_step=1)
    board.log("train", 1, {"loss": 0.5, "flow_loss": 0.25})
    board.log("validation", 2, {"error": 2.0})
    board.close()
    expected = [("train/loss", 1, 0.5), ("train/flow_loss", 1, 0.25), ("validation/error", 2, 2.0)]
    assert _scalars(tmp_path) == expected


def test_run_is_shown_by_tensorboard_with_the_components_of_its_loss(make_trainer):
    trainer = make_trainer(steps=2)
    trainer.run()
    tags = {(tag, step) for tag, step, _ in _scalars(trainer.folder.tensorboard_path)}
    assert {("train/loss", 1), ("train/loss", 2), ("validation/error", 2)} <= tags
    assert ("train/learning_rate", 1) in tags


def test_wandb_without_login_says_what_to_do(tmp_path, monkeypatch):
    def refuse(**keywords):
        raise RuntimeError("No API key configured.")

    wandb = SimpleNamespace(init=refuse, Error=RuntimeError)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(ConfigError, match=r"No API key configured.* WANDB_MODE=offline"):
        WandB("arms", tmp_path, {})


def test_wandb_that_is_not_installed_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"wandb is 'arms', but .*pip install wandb"):
        WandB("arms", tmp_path, {})


def test_wandb_that_is_not_installed_is_missed_before_the_frames_are_prepared(
    make_trainer, monkeypatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"wandb is 'arms', but .*pip install wandb"):
        make_trainer(wandb="arms")


def test_wandb_gets_every_figure_and_a_resumed_training_goes_on_with_its_run(
    make_trainer, monkeypatch
):
    runs, figures, ended = [], [], []

    def init(**keywords):
        runs.append(keywords)
        return SimpleNamespace(log=log, finish=lambda: ended.append(keywords["id"]))

    def log(named, step):
        figures.extend((name, step) for name in named)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=RuntimeError))
    first = make_trainer(steps=2, wandb="arms")
    first.run()
    written = [(tag, step) for tag, step, _ in _scalars(first.folder.tensorboard_path)]
    second = make_trainer(steps=2, wandb="arms")
    assert second.resume()
    second.run()
    assert sorted(figures) == sorted(written)
    assert {("train/loss", 1), ("train/loss", 2), ("validation/error", 2)} <= set(figures)
    assert [run["project"] for run in runs] == ["arms", "arms"]
    assert {run["resume"] for run in runs} == {"allow"}
    assert ended == [runs[0]["id"], runs[0]["id"]]
    assert runs[0]["config"]["steps"] == 2
