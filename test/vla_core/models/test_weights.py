# SPDX-License-Identifier: MIT
import pickle

import pytest
import torch
from torch import nn

from vla_core.errors import CheckpointError
from vla_core.models.weights import read_config, read_tensors, write_model


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    write_model(path, tmp_path / "config.json", nn.Linear(64, 64), {"kind": "linear"})
    return path


def test_written_tensors_are_read_back(saved):
    assert {key: tuple(value.shape) for key, value in read_tensors(saved).items()} == {
        "weight": (64, 64),
        "bias": (64,),
    }
    assert read_config(saved.parent / "config.json") == {"kind": "linear"}


def test_nothing_else_is_left_behind(saved):
    assert sorted(path.name for path in saved.parent.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_failed_writing_keeps_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_model(saved, saved.parent / "config.json", nn.Linear(2, 2), {})
    assert saved.read_bytes() == before
    assert len(list(saved.parent.iterdir())) == 2


@pytest.mark.parametrize("kept", [0, 5, 40, 1000, -1])
def test_truncated_file_is_called_truncated(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="truncated"):
        read_tensors(saved)


def test_file_of_another_kind_is_called_so(saved):
    saved.write_text("these are no weights at all, only words")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        read_tensors(saved)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_pickle_is_refused_and_never_run(tmp_path, zipped):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="refused, because unpickling can run any code"):
        read_tensors(path)


def test_plain_pickle_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"weight": [0.0]}))
    with pytest.raises(CheckpointError, match="pickled"):
        read_tensors(path)


def test_header_whose_size_starts_like_a_pickle_is_read(tmp_path):
    first_bytes = set()
    for count in range(1, 40):  # The size of the header grows by 8 or so with each tensor.
        path = tmp_path / f"{count}.safetensors"
        layers = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in range(count))
        write_model(path, tmp_path / "config.json", layers, {})
        first_bytes.add(path.read_bytes()[:1])
        assert len(read_tensors(path)) == count
    assert b"\x80" in first_bytes


def test_absent_file_is_reported_with_what_lies_there(saved):
    with pytest.raises(CheckpointError, match=r"holds config\.json, model\.safetensors"):
        read_tensors(saved.parent / "weights.safetensors")


def test_broken_json_is_reported(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a": ')
    with pytest.raises(CheckpointError, match="not valid JSON"):
        read_config(path)
    path.write_text("[1]")
    with pytest.raises(CheckpointError, match="JSON object, got list"):
        read_config(path)
