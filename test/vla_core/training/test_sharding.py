# SPDX-License-Identifier: MIT
"""Divided weights get the gradients of whole ones, however the parts of a model call each other.

A group of one process divides nothing, but gathers and frees every layer as a large one does.
"""

import copy

import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.training.model import build_model
from vla_core.training.recipe import TrainRecipe
from vla_core.training.sharding import divide, gather, reshard, shard

MODELS = {
    "custom": {},
    "helix": {"chunk_size": None, "depth": 1, "plan_horizon": 4, "plan_dim": 16},
    "openvla": {"action_token_pattern": "oft"},
    "pi0": {"num_state_tokens": 8, "flow_steps": 3},
    "act": {"num_heads": 2, "feedforward_dim": 16},
    "octo": {"num_heads": 2, "num_layers": 1},
    "rt2": {"num_bins": 16, "hidden_dim": None},
    "gr00t": {"conditioning": "adaln_cross", "process": "flow", "num_heads": 2},
}
WITHOUT_VLM = ("act", "octo")
BATCH = {
    "images": torch.rand(2, 2, 3, 32, 32),
    "text": ["lift the red block", "lift it"],
    "proprioception": torch.rand(2, 3),
    "actions": torch.rand(2, 4, 3),
}


@pytest.fixture(scope="module", autouse=True)
def _group():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def make_model(recipe_values, contract):
    def make(framework):
        settings = {"hidden_dim": 16, "chunk_size": 4} | MODELS[framework]
        model = {key: value for key, value in settings.items() if value is not None}
        vlm = recipe_values["vlm"] | {"num_action_tokens": 16}
        if framework in WITHOUT_VLM:
            vlm = {}
            model["vision_encoder"] = {"name": "patch", "output_dim": 16}
        values = recipe_values | {"framework": framework, "vlm": vlm, "model": model}
        return build_model(TrainRecipe.from_dict(values), contract)

    return make


@pytest.mark.parametrize("recompute", [False, True], ids=["stored", "recomputed"])
@pytest.mark.parametrize("framework", sorted(MODELS))
def test_second_step_has_the_gradients_of_whole_weights(framework, recompute, make_model):
    model = make_model(framework)
    model.unfreeze_backbone()
    model.train()
    if recompute:
        model.backbone.gradient_checkpointing_enable()
    whole = copy.deepcopy(model)
    shard(model, "cpu")
    for _ in range(2):
        for each in (whole, model):
            each.zero_grad()
            torch.manual_seed(0)
            each(**BATCH)["loss"].backward()
        reshard(model)
        gradients = {name: p.grad for name, p in model.named_parameters()}
        expected = {name: p.grad for name, p in whole.named_parameters()}
        torch.testing.assert_close(gather(gradients), expected)
        for each in (whole, model):
            torch.optim.SGD(each.parameters(), lr=0.1).step()


def test_whole_tensors_are_divided_as_the_weights_are(make_model):
    model = make_model("octo")
    whole = {name: value.clone() for name, value in model.state_dict().items()}
    shard(model, "cpu")
    divided = {name: divide(whole[name], like) for name, like in model.state_dict().items()}
    model.load_state_dict(divided)
    torch.testing.assert_close(gather(model.state_dict()), whole)
    assert set(gather(dict(model.named_parameters()), keep=False).values()) == {None}


def test_weight_without_dimensions_is_refused(make_model):
    model = make_model("octo")
    model.temperature = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ConfigError, match=r"temperature of OctoVLA has no dimension; set shard"):
        shard(model, "cpu")


def test_old_pytorch_is_refused(make_model, monkeypatch):
    monkeypatch.delattr("torch.distributed.fsdp.fully_shard")
    with pytest.raises(ConfigError, match=r"needs PyTorch 2\.6 or newer, but this is"):
        shard(make_model("octo"), "cpu")


def test_compiled_blocks_are_not_divided(make_model, recipe_values):
    with pytest.raises(ConfigError, match=r"set compile=false or shard_weights=false"):
        TrainRecipe.from_dict(recipe_values | {"compile": True, "shard_weights": True})
