# SPDX-License-Identifier: MIT
"""What every framework promises of its loss, its gradients and its frozen backbone."""

import pytest
import torch

from vla_core.models.action_heads.flow_path import FlowPath
from vla_core.models.action_heads.process import DiffusionProcess, FlowProcess
from vla_core.models.frameworks.action_tokens import ActionTokenDecoder

CHUNK_SIZE, BATCH = 4, 3

# The weight of every component in the loss, by builder, or by framework where its builders agree.
LOSSES = {
    "act": {"reconstruction_loss": 1.0, "kl_loss": 1.0},
    "act reference": {"reconstruction_loss": 1.0, "kl_loss": 10.0},
    "custom": {"diffusion_loss": 1.0},
    "custom vq": {"diffusion_loss": 1.0, "state_loss": 1.0},
    "gr00t": {"diffusion_loss": 1.0},
    "gr00t flow": {"flow_loss": 1.0},
    "gr00t reference": {"flow_loss": 1.0},
    "helix": {
        "action_loss": 1.0,
        "sequence_loss": 1.0,
        "plan_loss": 0.1,
        "smoothing_loss": 0.01,
    },
    "helix reference": {"action_loss": 1.0, "sequence_loss": 1.0, "smoothing_loss": 0.0},
    "octo": {"mse_loss": 1.0},
    "octo diffusion": {"diffusion_loss": 1.0},
    "octo reference": {"diffusion_loss": 1.0},
    "openvla": {"l1_loss": 1.0},
    "openvla reference": {"token_loss": 1.0},
    "pi0": {
        "flow_loss": 1.0,
        "vq_loss": 1.0,
        "reconstruction_loss": 0.0,  # The three that vq_loss is the sum of.
        "codebook_loss": 0.0,
        "commitment_loss": 0.0,
    },
    "pi0 text_bins": {"flow_loss": 1.0},
    "pi0 reference": {"flow_loss": 1.0},
    "pi0 pi05": {"flow_loss": 1.0},
    "rt2": {"token_loss": 1.0},
}

# What lies behind the backbone's last keys and values, where the framework reads these alone.
UNREAD = {
    "pi0": (
        "norm.",
        "blocks.1.mlp",
        "blocks.1.attention.query",
        "blocks.1.attention.out",
    )
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_loss_is_the_weighted_sum_of_its_named_components(build, builder_name, make_batch):
    weights = LOSSES.get(builder_name, LOSSES.get(builder_name.split()[0]))
    outputs = build().train()(**make_batch())
    assert outputs["loss"].shape == ()
    assert outputs["loss"].isfinite()
    assert {name for name in outputs if name.endswith("_loss")} == set(weights)
    total = sum(weight * outputs[name] for name, weight in weights.items())
    torch.testing.assert_close(outputs["loss"], total)


def test_gradients_reach_every_trainable_parameter_and_no_frozen_one(build, make_batch):
    model = build(freeze_vlm=True).train()
    model(**make_batch())["loss"].backward()
    model(**make_batch(proprioception=None))["loss"].backward()
    frozen = {id(parameter) for parameter in model.backbone.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) in frozen:
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_gradients_reach_the_whole_backbone_when_it_is_not_frozen(build, make_batch):
    model = build(freeze_vlm=False).train()
    model(**make_batch())["loss"].backward()
    for name, parameter in model.backbone.named_parameters():
        if not name.startswith(UNREAD.get(model.framework, ())):
            assert parameter.grad.abs().sum() > 0, name


def test_every_parameter_has_a_gradient_in_every_training_step(build, make_batch):
    model = build(freeze_vlm=False).train()
    model(**make_batch())["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_frozen_backbone_stays_in_eval_mode_when_the_model_trains(build):
    model = build(freeze_vlm=True).train()
    assert model.training
    assert not any(module.training for module in model.backbone.modules())


def test_unfrozen_backbone_trains_and_freezes_again(build):
    model = build(freeze_vlm=True).train()
    all_parameters = model.get_num_parameters()
    frozen_count = all_parameters - sum(p.numel() for p in model.backbone.parameters())
    assert model.get_num_parameters(trainable_only=True) == frozen_count
    model.unfreeze_backbone()
    assert model.backbone.training
    assert model.get_num_parameters(trainable_only=True) == all_parameters
    model.freeze_backbone()
    assert not model.backbone.training
    assert model.get_num_parameters(trainable_only=True) == frozen_count


def test_training_never_runs_the_sampler(build, monkeypatch, make_batch):
    model = build().train()
    samplers = [
        (part, name)
        for part in model.modules()
        for name in ("predict_action", "_integrate", "generate")
        if hasattr(part, name)
    ]
    assert (model, "predict_action") in samplers
    inner = [(DiffusionProcess, "sample"), (FlowProcess, "sample"), (FlowPath, "integrate")]
    for part, name in [*samplers, (ActionTokenDecoder, "decode"), *inner]:
        monkeypatch.setattr(part, name, lambda *_, **__: pytest.fail("the sampler ran"))
    model(**make_batch())["loss"].backward()


def test_content_of_padded_steps_does_not_change_the_loss(build, make_batch):
    model, batch = build(), make_batch()
    is_pad = torch.zeros(BATCH, CHUNK_SIZE, dtype=torch.bool)
    is_pad[0, 2:] = True
    changed = {**batch, "actions": batch["actions"].masked_fill(is_pad[..., None], 5.0)}
    losses = [
        model(**inputs, action_is_pad=is_pad, generator=seeded())["loss"]
        for inputs in (batch, changed)
    ]
    assert torch.equal(*losses)
    unmasked = model(**changed, generator=seeded())["loss"]
    assert not torch.isclose(unmasked, losses[0])


def test_action_mask_is_the_opposite_of_padding(build, make_batch):
    model, batch = build(), make_batch()
    is_pad = torch.zeros(BATCH, CHUNK_SIZE, dtype=torch.bool)
    is_pad[0, 2:] = True
    by_pad = model(**batch, action_is_pad=is_pad, generator=seeded())["loss"]
    assert torch.equal(by_pad, model(**batch, action_mask=~is_pad, generator=seeded())["loss"])


def test_bfloat16_autocast_gives_a_finite_float32_loss(build, make_batch):
    with torch.autocast("cpu", torch.bfloat16):
        loss = build().train()(**make_batch())["loss"]
    assert loss.dtype == torch.float32
    loss.backward()
    assert loss.isfinite()
