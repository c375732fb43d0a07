# SPDX-License-Identifier: MIT
"""Weights files without torch: identity and parts."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vla_core.errors import CheckpointError
from vla_core.models.weight_files import read_arrays, weights_identity
from vla_core.models.weights import read_part_tensors, write_model

HUGE = 1 << 42
"""Bytes of a tensor that no machine here could read."""


def write(folder, seed):
    torch.manual_seed(seed)
    write_model(folder / "model.safetensors", folder / "config.json", nn.Linear(3, 2), {})
    return folder / "model.safetensors"


@pytest.fixture
def sparse_file(tmp_path):
    """A file with the tensors `small.values` and `large.values`, the latter a hole of 4 TiB."""
    path = tmp_path / "sparse.safetensors"
    header = json.dumps(
        {
            "__metadata__": {"identity": "0123456789abcdef"},
            "small.values": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "large.values": {"dtype": "U8", "shape": [HUGE], "data_offsets": [8, 8 + HUGE]},
        }
    ).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(np.array([1.0, 2.0], np.float32).tobytes())
        file.truncate(8 + len(header) + 8 + HUGE)
    return path


def test_identity_is_that_of_the_weights(tmp_path):
    first, same, other = (tmp_path / name for name in ("first", "same", "other"))
    assert weights_identity(write(first, 0)) == weights_identity(write(same, 0))
    assert weights_identity(write(first, 0)) != weights_identity(write(other, 1))


def test_a_file_that_does_not_tell_its_identity_is_hashed(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"values": torch.ones(2)}, path)
    assert weights_identity(path) == hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_part_has_the_names_without_the_prefix(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a.x": torch.tensor([1.0, 2.0]), "b.x": torch.zeros(3)}, path)
    assert read_arrays(path, "a.")["x"].tolist() == [1.0, 2.0]
    assert {name: value.tolist() for name, value in read_part_tensors(path, "a.").items()} == {
        "x": [1.0, 2.0]
    }


@pytest.mark.parametrize("read", [read_arrays, read_part_tensors])
def test_a_part_is_read_where_the_rest_would_not_fit_into_memory(sparse_file, read):
    assert read(sparse_file, "small.")["values"].tolist() == [1.0, 2.0]
    assert weights_identity(sparse_file) == "0123456789ab"


@pytest.mark.parametrize(
    "read", [read_arrays, read_part_tensors, lambda path, _: weights_identity(path)]
)
@pytest.mark.parametrize("content", [None, b"", b"no safetensors file at all"])
def test_missing_and_damaged_files_are_refused(tmp_path, read, content):
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read(path, "a.")
