# SPDX-License-Identifier: MIT
"""Every form of training that the frameworks have in common."""

import pytest
import torch

from vla_core.errors import ConfigError

NAMES = ("act", "custom", "gr00t", "helix", "octo", "openvla", "pi0", "rt2")
WITH_VLM = [name for name in NAMES if name not in ("act", "octo")]
each_framework = pytest.mark.parametrize("name", NAMES)
each_framework_with_a_vlm = pytest.mark.parametrize("name", WITH_VLM)


@each_framework
def test_basic_training_loop(name, make_model, make_batch):
    model, batch = make_model(name), make_batch(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for _ in range(2):
        outputs = model(**batch)
        loss = outputs["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
    after = list(model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(parameter.isfinite().all() for parameter in after)


@each_framework
def test_mixed_precision_and_gradient_accumulation(name, make_model, make_batch):
    model, batch = make_model(name), make_batch(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch)["loss"] / 2
        loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    optimizer.step()
    optimizer.zero_grad()


@each_framework
def test_component_losses_are_tracked_apart(name, make_model, make_batch):
    model, batch = make_model(name), make_batch(name)
    outputs = model(**batch)
    components = {key: value.item() for key, value in outputs.items() if key.endswith("_loss")}
    assert components
    images, text, state, actions = batch.values()
    losses = model.compute_loss(model(images, text, state), actions)
    assert losses["loss"].isfinite()
    assert {key for key in losses if key.endswith("_loss")} <= components.keys()


@each_framework
def test_curriculum_from_small_motions_to_large_ones(name, make_model, make_batch):
    model, batch = make_model(name), make_batch(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for reach in (0.1, 0.5, 1.0):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        loss = model(**{**batch, "actions": reach * batch["actions"]})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
        after = model.parameters()
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


# RT-2 without a state is the VLM and nothing else: frozen, it has nothing to learn.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "rt2"])
def test_frozen_first_and_fine_tuned_later(name, make_model, make_batch):
    model, batch = make_model(name), make_batch(name)
    model.freeze_backbone()
    model(**batch)["loss"].backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    model.unfreeze_backbone()
    model(**batch)["loss"].backward()
    assert any(parameter.grad is not None for parameter in model.backbone.parameters())


def test_rt2_says_that_frozen_it_has_nothing_to_learn(make_model, make_batch):
    model, batch = make_model("rt2").train(), make_batch("rt2")
    model.freeze_backbone()
    with pytest.raises(ConfigError, match=r"nothing to train.*unfreeze_backbone\(\).*state_dim"):
        model(**batch)
    assert model.eval()(**batch)["loss"].isfinite()
    model.unfreeze_backbone()
    model.train()(**batch)["loss"].backward()
    assert any(parameter.grad is not None for parameter in model.backbone.parameters())


@each_framework_with_a_vlm
def test_gradient_checkpointing_of_the_vlm(name, make_model, make_batch):
    model, batch = make_model(name), make_batch(name)
    model.unfreeze_backbone()
    model.vlm.gradient_checkpointing_enable()
    model(**batch)["loss"].backward()
    assert any(parameter.grad is not None for parameter in model.vlm.parameters())
