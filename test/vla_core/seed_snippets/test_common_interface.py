# SPDX-License-Identifier: MIT
"""Every call form that the frameworks have in common."""

import pytest
import torch

from vla_core.models.frameworks import available_frameworks
from vla_core.models.vlm import get_vlm

NAMES = ("act", "custom", "gr00t", "helix", "octo", "openvla", "pi0", "rt2")
each_framework = pytest.mark.parametrize("name", NAMES)


def without_actions(batch):
    return {key: value for key, value in batch.items() if key != "actions"}


def test_the_eight_frameworks_are_there_and_each_is_run_here(make_model):
    assert set(NAMES) <= set(available_frameworks())
    assert {type(make_model(name)).framework for name in NAMES} == set(NAMES)


@each_framework
def test_common_interface(name, make_model, make_batch):
    model, batch = make_model(name), make_batch(name)
    images, text, state, actions = batch.values()
    outputs = model(
        images=images,
        text=text,
        proprioception=state,
        actions=actions,
    )
    loss = outputs["loss"]
    loss.backward()
    assert loss.isfinite()

    actions = model.predict_action(images=images, text=text, proprioception=state)
    assert actions.shape[0] == len(images)
    assert actions.shape[-1] == 7

    assert model.get_config()["action_dim"] == 7
    model.freeze_backbone()
    frozen = model.get_num_parameters(trainable_only=True)
    model.unfreeze_backbone()
    assert model.get_num_parameters(trainable_only=True) > frozen


@each_framework
def test_four_arguments_by_position(name, make_model, make_batch):
    model, batch = make_model(name), make_batch(name)
    images, text, proprioception, actions = batch.values()
    assert model(images, text, proprioception, actions)["loss"].isfinite()


@each_framework
def test_saving_to_a_file_path(name, tmp_path, monkeypatch, make_model, make_batch):
    monkeypatch.chdir(tmp_path)
    model = make_model(name).eval()
    model.save_pretrained("checkpoints/model.pt")
    inputs = without_actions(make_batch(name))
    loaded = type(model).from_pretrained("checkpoints/model.pt")
    expected, actual = (
        m.predict_action(**inputs, generator=torch.Generator().manual_seed(0))
        for m in (model, loaded)
    )
    assert torch.equal(expected, actual)


@each_framework
def test_inference(name, make_model, make_batch):
    model, batch = make_model(name), make_batch(name)
    model.eval()
    with torch.no_grad():
        predicted_actions = model.predict_action(
            images=batch["images"],
            text="Pick up the cup",
            proprioception=batch["proprioception"],
        )
    assert predicted_actions.isfinite().all()


@each_framework
def test_ensemble_of_several_runs(name, make_model, make_batch):
    model, inputs = make_model(name).eval(), without_actions(make_batch(name))
    runs = torch.stack([model.predict_action(**inputs) for _ in range(3)])
    assert runs.mean(dim=0).shape == runs.shape[1:]


def test_a_published_vlm_is_loaded_by_its_name(cached_repository, write_original, monkeypatch):
    prismatic = pytest.importorskip("vla_core.models.vlm.prismatic", reason="needs transformers")
    tiny = prismatic.PrismaticVLM.tiny_config()
    monkeypatch.setattr("vla_core.models.vlm.prismatic.OPENVLA_CONFIG", tiny)
    published = get_vlm("prismatic", size="tiny")
    write_original(published, cached_repository("openvla/openvla-7b"))
    vlm = get_vlm("prismatic", pretrained=True)
    key = "language_model.embed_tokens.weight"
    assert torch.equal(vlm.model.state_dict()[key], published.model.state_dict()[key])
