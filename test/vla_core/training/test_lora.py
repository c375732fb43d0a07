# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.frameworks import AbstractVLA
from vla_core.training.lora import adapters_merged, add_adapters
from vla_core.training.model import build_model
from vla_core.training.recipe import TrainRecipe
from vla_core.training.recipe_sections import LoraRecipe

_LORA = {"rank": 2, "dropout": 0.1}


@pytest.fixture
def model(recipe_values, contract):
    return build_model(TrainRecipe.from_dict(recipe_values), contract)


def test_adapters_alone_are_trained_in_the_backbone(model):
    add_adapters(model, LoraRecipe(rank=2))
    trained = {name for name, p in model.vlm.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)


def test_merged_weights_answer_like_the_adapters_and_leave_no_trace(model, tmp_path):
    add_adapters(model, LoraRecipe(rank=2))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.eval()
    images = torch.rand(2, 2, 3, 32, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = model.encode_vlm(images, "lift it").features
    with adapters_merged(model):
        model.save_pretrained(tmp_path)
    loaded = AbstractVLA.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.encode_vlm(images, "lift it").features, adapted)
    assert not any("lora_" in name for name in loaded.state_dict())
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_backbone_without_linear_layers_is_refused(model):
    model.vlm = torch.nn.Module()
    with pytest.raises(ConfigError, match="has no linear layers to adapt"):
        add_adapters(model, LoraRecipe(rank=2))


def test_run_with_adapters_leaves_a_plain_policy(make_trainer):
    settings = {"cache_features": False, "lora": _LORA, "steps": 6}
    whole = make_trainer("whole", **settings)
    whole.run()
    state = whole.folder.checkpoints.load(whole.folder.checkpoints.latest())
    assert any("lora_A" in name for name in state.model)
    policy = AbstractVLA.from_pretrained(whole.folder.policy_path)
    assert not any("lora_" in name for name in policy.state_dict())
