# SPDX-License-Identifier: MIT
import json

import pytest
import torch
from torch import nn

from vla_core.errors import CheckpointError, ConfigError
from vla_core.models.vlm import TinyVLM, get_vlm

SMALL = {"image_size": 32, "hidden_size": 16, "depth": 1, "num_heads": 2}


@pytest.fixture
def vlm():
    return TinyVLM(**SMALL, seed=1)


def test_frozen_model_stays_in_eval_mode_when_its_parent_trains(vlm):
    parent = nn.ModuleDict({"vlm": vlm})
    vlm.freeze()
    parent.train()
    assert parent.training
    assert not any(module.training for module in vlm.modules())


def test_frozen_model_gets_no_gradient(vlm):
    vlm.freeze()
    assert not vlm.encode(torch.rand(1, 3, 32, 32), "red").features.requires_grad


def test_unfrozen_model_trains_again(vlm):
    vlm.freeze()
    vlm.unfreeze()
    vlm.train()
    assert vlm.training
    assert all(parameter.requires_grad for parameter in vlm.parameters())


def test_configuration_is_json_and_rebuilds_the_model(vlm):
    config = json.loads(json.dumps(vlm.get_config()))
    assert TinyVLM.from_config(config).get_config() == vlm.get_config()


def test_unknown_configuration_keys_are_named(vlm):
    with pytest.raises(ConfigError, match=r"\['widht'\].*valid: image_size"):
        TinyVLM.from_config({**vlm.get_config(), "widht": 3})


def test_saved_model_loads_with_equal_weights(vlm, tmp_path):
    vlm.save_pretrained(tmp_path / "new" / "folder")
    loaded = get_vlm("tiny", pretrained=tmp_path / "new" / "folder")
    assert loaded.get_config() == vlm.get_config()
    for key, value in vlm.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_absent_weights_are_reported_with_their_path(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent/config\.json does not exist"):
        get_vlm("tiny", pretrained=tmp_path / "absent")


def test_keywords_that_the_weights_do_not_fit_are_refused(vlm, tmp_path):
    vlm.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"text_position: \[12, 16\] in the file, \[9, 16\]"):
        get_vlm("tiny", pretrained=tmp_path, max_text_tokens=9)


def test_cached_rows_are_those_of_the_batch(vlm):
    output = vlm.eval().encode(torch.rand(4, 2, 3, 32, 32), ["a", "b c", "d", "e"])
    rows = output.rows(torch.tensor([2, 1]))
    assert torch.equal(rows.features, output.features[[2, 1]])
    assert torch.equal(rows.mask, output.mask[[2, 1]])
    assert rows.num_blocks == 2


def test_features_change_their_dtype_and_the_mask_does_not(vlm):
    output = vlm.eval().encode(torch.rand(1, 3, 32, 32), "a").to("cpu", torch.bfloat16)
    assert output.features.dtype == torch.bfloat16
    assert output.mask.dtype == torch.bool
