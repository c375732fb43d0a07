# SPDX-License-Identifier: MIT
"""What every framework promises, whatever is inside: its configuration and its checkpoints."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_core.errors import CheckpointError
from vla_core.models.frameworks import AbstractVLA, available_frameworks, framework_class, load


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_available_framework_is_under_contract(builders):
    assert {name.split()[0] for name in builders} == set(available_frameworks())


def test_every_preset_is_under_contract(builders):
    published = {
        f"{name} {preset}"
        for name in available_frameworks()
        for preset in framework_class(name).presets
        if preset != "seed"
    }
    assert published <= set(builders)


def test_configuration_is_json_and_rebuilds_the_model(build):
    config = json.loads(json.dumps(build().get_config()))
    rebuilt = AbstractVLA.from_config(config)
    assert rebuilt.get_config() == config
    assert type(rebuilt) is type(build())


@pytest.mark.parametrize("name", ["checkpoint", "run-0.5", "checkpoints/model.pt"])
def test_loaded_model_predicts_what_the_saved_one_did(build, tmp_path, name, observation):
    model = build()
    model.save_pretrained(tmp_path / name)
    expected = model.predict_action(**observation(), generator=seeded())
    for loader in (load, type(model).from_pretrained):
        loaded = loader(tmp_path / name)
        assert torch.equal(loaded.predict_action(**observation(), generator=seeded()), expected)


def test_a_misshapen_weight_is_refused_by_its_name(build, tmp_path):
    model = build()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2)
    tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    for strict in (True, False):
        with pytest.raises(CheckpointError, match=re.escape(name)):
            type(model).from_pretrained(tmp_path, strict=strict)
