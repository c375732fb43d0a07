# SPDX-License-Identifier: MIT
"""What every framework promises, whatever is inside."""

import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_core.errors import CheckpointError, ConfigError, ShapeError
from vla_core.models.action_heads import DDPMActionHead
from vla_core.models.action_heads.flow_path import FlowPath
from vla_core.models.action_heads.process import DiffusionProcess, FlowProcess
from vla_core.models.encoders import PatchVisionEncoder
from vla_core.models.frameworks import (
    ACTVLA,
    GR00TVLA,
    RT2VLA,
    AbstractVLA,
    CustomVLA,
    HelixVLA,
    OctoVLA,
    OpenVLA,
    Pi0VLA,
    available_frameworks,
    framework_class,
    load,
)
from vla_core.models.frameworks.action_tokens import ActionTokenDecoder
from vla_core.models.fusion import CrossAttentionFusion
from vla_core.models.vlm import TinyVLM

STATE_DIM, ACTION_DIM, CHUNK_SIZE, CAMERAS, BATCH = 5, 3, 4, 2, 3


def tiny_vlm(depth=1, **overrides):
    return TinyVLM(32, 16, depth=depth, num_heads=2, max_text_tokens=16, **overrides)


def build_gr00t(preset="seed", **overrides):
    settings = {
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "hidden_dim": 32,
        "num_cameras": CAMERAS,
        "diffusion_steps": 10,
        "chunk_size": CHUNK_SIZE,
        "prediction": "sample",
        **overrides,
    }
    return GR00TVLA.from_preset(preset, vlm=tiny_vlm(), **settings)


SMALL_DIT = {
    "num_blocks": 2,
    "num_heads": 2,
    "num_context_blocks": 1,
    "num_future_tokens": 2,
}


def build_openvla(preset="seed", freeze_vlm=False, **overrides):
    settings = {
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "hidden_dim": 32,
        "num_cameras": CAMERAS,
        "chunk_size": CHUNK_SIZE,
        "num_bins": 16,
        **overrides,
    }
    pattern = {**OpenVLA.presets[preset], **settings}.get("action_token_pattern")
    vlm = tiny_vlm(num_action_tokens=16 if pattern == "autoregressive" else 0)
    return OpenVLA.from_preset(preset, vlm=vlm, fine_tune_vlm=not freeze_vlm, **settings)


def build_rt2(preset="seed", freeze_vlm=False, **overrides):
    settings = {
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "num_cameras": CAMERAS,
        "chunk_size": CHUNK_SIZE,
        "num_bins": 16,
        **overrides,
    }
    vlm = tiny_vlm(num_action_tokens=16)
    return RT2VLA.from_preset(preset, vlm=vlm, fine_tune_vlm=not freeze_vlm, **settings)


def build_custom(chunk_size=CHUNK_SIZE, **overrides):
    settings = {
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "hidden_dim": 32,
        "num_cameras": CAMERAS,
        "fusion_module": CrossAttentionFusion(32, 32, 32, output_dim=32),
        "action_head": DDPMActionHead(
            32, ACTION_DIM, chunk_size, hidden_dim=32, diffusion_steps=10, prediction="sample"
        ),
        **overrides,
    }
    return CustomVLA.from_preset("seed", vlm=tiny_vlm(), **settings)


def build_act(preset="seed", freeze_vlm=False, **overrides):
    settings = {
        "vision_encoder": PatchVisionEncoder(output_dim=16, hidden_dims=(8, 8, 16, 16)),
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "hidden_dim": 32,
        "num_heads": 4,
        "feedforward_dim": 64,
        "num_encoder_layers": 2,
        "num_posterior_layers": 1,
        "chunk_size": CHUNK_SIZE,
        "dropout": 0.0,
        "num_cameras": CAMERAS,
        "camera_embedding": True,
        **overrides,
    }
    return ACTVLA.from_preset(preset, freeze_vision_encoder=freeze_vlm, **settings)


SMALL_RESNET = {"name": "resnet", "width": 8}


def build_pi0(preset="seed", freeze_vlm=False, **overrides):
    settings = {
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "hidden_dim": 32,
        "num_state_tokens": 16,
        "flow_steps": 10,
        "num_cameras": CAMERAS,
        "chunk_size": CHUNK_SIZE,
        **overrides,
    }
    vlm = tiny_vlm(depth=2)
    return Pi0VLA.from_preset(preset, vlm=vlm, fine_tune_vlm=not freeze_vlm, **settings)


def build_helix(preset="seed", chunk_size=CHUNK_SIZE, **overrides):
    settings = {
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "plan_dim": 16,
        "plan_horizon": chunk_size,
        "hidden_dim": 32,
        "depth": 1,
        "num_heads": 4,
        "motor_dim": 32,
        "num_cameras": CAMERAS,
        **overrides,
    }
    return HelixVLA.from_preset(preset, vlm=tiny_vlm(), **settings)


def build_octo(preset="seed", freeze_vlm=False, **overrides):
    settings = {
        "vision_encoder": PatchVisionEncoder(output_dim=16, hidden_dims=(8, 8, 16, 16)),
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "hidden_dim": 32,
        "num_tasks": 3,
        "num_cameras": CAMERAS,
        "chunk_size": CHUNK_SIZE,
        "num_layers": 2,
        "num_heads": 2,
        "head_dim": 32,
        "prediction": "sample",
        **overrides,
    }
    return OctoVLA.from_preset(preset, freeze_vision_encoder=freeze_vlm, **settings)


# Presets come with smaller widths and fewer layers, and else as they are.
BUILDERS = {
    "act": partial(build_act, kl_weight=1.0),
    "act resnet": partial(build_act, kl_weight=1.0, vision_encoder=SMALL_RESNET),
    "act reference": partial(build_act, "reference", vision_encoder=SMALL_RESNET),
    "custom": build_custom,
    "custom vq": partial(
        build_custom,
        state_encoder={
            "name": "VQStateEncoder",
            "state_dim": STATE_DIM,
            "output_dim": 32,
            "num_codes": 16,
        },
    ),
    "gr00t": build_gr00t,
    "gr00t flow": partial(build_gr00t, process="flow", inference_steps=10),
    "gr00t adaln_cross ddim": partial(
        build_gr00t, **SMALL_DIT, conditioning="adaln_cross", process="ddim"
    ),
    "gr00t reference": partial(build_gr00t, "reference", **SMALL_DIT),
    "helix": build_helix,
    "helix reference": partial(build_helix, "reference"),
    "octo": partial(build_octo, history_length=2),
    "octo diffusion": partial(build_octo, history_length=2, head="diffusion", diffusion_steps=10),
    "octo reference": partial(build_octo, "reference"),
    "openvla": build_openvla,
    "openvla special": partial(build_openvla, action_token_pattern="special"),
    "openvla oft": partial(build_openvla, "oft"),
    "openvla reference": partial(build_openvla, "reference"),
    "pi0": build_pi0,
    "pi0 text_bins": partial(build_pi0, state_mode="text_bins"),
    "pi0 reference": partial(build_pi0, "reference"),
    "pi0 pi05": partial(build_pi0, "pi05"),
    "rt2": partial(build_rt2, temperature=0.0),
    "rt2 reference": partial(build_rt2, "reference"),
}

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


def one_step_from_noise(rows):
    return {"inference_steps": 1, "noise": torch.randn(BATCH, CHUNK_SIZE, ACTION_DIM)[rows]}


# What makes a framework predict without drawing numbers for all rows together.
DRAWLESS = {
    "octo diffusion": one_step_from_noise,
    "octo reference": one_step_from_noise,
    "gr00t": one_step_from_noise,
    "custom": one_step_from_noise,
    "pi0": one_step_from_noise,
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

# Accept text and do not read it.
WITHOUT_LANGUAGE = {"act"}


@pytest.fixture(params=sorted(BUILDERS))
def builder_name(request):
    return request.param


@pytest.fixture
def build_new(builder_name):
    """Return the constructor of a small model."""
    torch.manual_seed(0)
    return BUILDERS[builder_name]


@pytest.fixture
def build(build_new):
    """Return the constructor of a small model whose every weight has an effect."""

    def build_disturbed(**overrides):
        torch.manual_seed(0)
        model = build_new(**overrides)
        with torch.no_grad():  # Zero-initialised layers would hide what lies before them.
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return model.eval()

    return build_disturbed


def make_batch(seed=1, batch=BATCH, cameras=CAMERAS, **overrides):
    draws = torch.Generator().manual_seed(seed)
    return {
        "images": torch.rand(batch, cameras, 3, 32, 32, generator=draws),
        "text": ["pick up the red block", "lift", "pick up the green block"][:batch],
        "proprioception": torch.rand(batch, STATE_DIM, generator=draws),
        "actions": torch.rand(batch, CHUNK_SIZE, ACTION_DIM, generator=draws) * 2.0 - 1.0,
        **overrides,
    }


def observation(**overrides):
    return {key: value for key, value in make_batch(**overrides).items() if key != "actions"}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def decision_of(model, **inputs):
    """Return the actions, or what they are chosen by where a small change chooses the same."""
    outputs = model(**observation(**inputs), generator=seeded())
    return outputs["logits"] if "logits" in outputs else outputs["actions"]


def features_of(outputs):
    """Return what the actions are made of, or where there are no such features, the actions."""
    return outputs["features"] if "features" in outputs else outputs["action_sequence"]


def test_every_available_framework_is_under_contract():
    assert {name.split()[0] for name in BUILDERS} == set(available_frameworks())


def test_every_preset_is_under_contract():
    published = {
        f"{name} {preset}"
        for name in available_frameworks()
        for preset in framework_class(name).presets
        if preset != "seed"
    }
    assert published <= set(BUILDERS)


def test_loss_is_the_weighted_sum_of_its_named_components(build, builder_name):
    weights = LOSSES.get(builder_name, LOSSES.get(builder_name.split()[0]))
    outputs = build().train()(**make_batch())
    assert outputs["loss"].shape == ()
    assert outputs["loss"].isfinite()
    assert {name for name in outputs if name.endswith("_loss")} == set(weights)
    total = sum(weight * outputs[name] for name, weight in weights.items())
    torch.testing.assert_close(outputs["loss"], total)


def test_gradients_reach_every_trainable_parameter_and_no_frozen_one(build):
    model = build(freeze_vlm=True).train()
    model(**make_batch())["loss"].backward()
    model(**make_batch(proprioception=None))["loss"].backward()
    frozen = {id(parameter) for parameter in model.backbone.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) in frozen:
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_gradients_reach_the_whole_backbone_when_it_is_not_frozen(build):
    model = build(freeze_vlm=False).train()
    model(**make_batch())["loss"].backward()
    for name, parameter in model.backbone.named_parameters():
        if not name.startswith(UNREAD.get(model.framework, ())):
            assert parameter.grad.abs().sum() > 0, name


def test_every_parameter_has_a_gradient_in_every_training_step(build):
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


def test_configuration_is_json_and_rebuilds_the_model(build):
    config = json.loads(json.dumps(build().get_config()))
    rebuilt = AbstractVLA.from_config(config)
    assert rebuilt.get_config() == config
    assert type(rebuilt) is type(build())


@pytest.mark.parametrize("name", ["checkpoint", "run-0.5", "checkpoints/model.pt"])
def test_loaded_model_predicts_what_the_saved_one_did(build, tmp_path, name):
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


def test_training_never_runs_the_sampler(build, monkeypatch):
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


def test_actions_have_a_chunk_axis_only_if_there_are_several(build):
    several = build().predict_chunk(**observation())
    assert several.shape == (BATCH, CHUNK_SIZE, ACTION_DIM)
    single = build(chunk_size=1)
    assert single.predict_chunk(**observation()).shape == (BATCH, 1, ACTION_DIM)
    assert (build().chunk_length, single.chunk_length) == (CHUNK_SIZE, 1)
    assert single.predict_action(**observation()).shape == (BATCH, ACTION_DIM)
    assert single(**make_batch(actions=torch.zeros(BATCH, ACTION_DIM)))["loss"].isfinite()


def test_forward_without_actions_predicts_without_gradient(build):
    model = build()
    actions = model(**observation(), generator=seeded())["actions"]
    assert not actions.requires_grad
    assert torch.equal(actions, model.predict_action(**observation(), generator=seeded()))


def test_fixed_generator_reproduces_prediction_and_loss(build):
    model = build()
    for compute in (
        lambda seed: model.predict_action(**observation(), generator=seeded(seed)),
        lambda seed: model(**make_batch(), generator=seeded(seed))["loss"],
    ):
        first = compute(1)
        torch.manual_seed(7)
        assert torch.equal(first, compute(1))


def test_a_row_does_not_depend_on_the_other_rows(build, builder_name):
    model, batch = build(), observation()
    drawless = DRAWLESS.get(builder_name, DRAWLESS.get(model.framework, lambda rows: {}))
    torch.manual_seed(0)
    together = model.predict_action(**batch, **drawless(slice(None)))
    torch.manual_seed(0)
    row = {key: value[1:2] for key, value in batch.items()}
    alone = model.predict_action(**row, **drawless(slice(1, 2)))
    torch.testing.assert_close(together[1:2], alone)


def test_one_batch_is_overfitted(build_new):
    model, batch = build_new().train(), make_batch()
    repeated = {
        key: value * 8 if isinstance(value, list) else value.repeat(8, *[1] * (value.dim() - 1))
        for key, value in batch.items()
    }
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=3e-3
    )
    for _ in range(200):
        optimizer.zero_grad()
        model(**repeated)["loss"].backward()
        optimizer.step()
    predicted = model.eval().predict_chunk(**observation(), generator=seeded())
    assert (predicted - batch["actions"]).abs().mean() < 0.1


def test_content_of_padded_steps_does_not_change_the_loss(build):
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


def test_action_mask_is_the_opposite_of_padding(build):
    model, batch = build(), make_batch()
    is_pad = torch.zeros(BATCH, CHUNK_SIZE, dtype=torch.bool)
    is_pad[0, 2:] = True
    by_pad = model(**batch, action_is_pad=is_pad, generator=seeded())["loss"]
    assert torch.equal(by_pad, model(**batch, action_mask=~is_pad, generator=seeded())["loss"])


def test_one_string_stands_for_every_row(build):
    model = build()
    one = model(**make_batch(text="lift the block"), generator=seeded())["loss"]
    listed = model(**make_batch(text=["lift the block"] * BATCH), generator=seeded())["loss"]
    assert torch.equal(one, listed)


def test_no_text_is_the_empty_instruction(build):
    model = build()
    none = model.predict_action(**observation(text=None), generator=seeded())
    assert torch.equal(none, model.predict_action(**observation(text=""), generator=seeded()))


CHANGES = {
    "another text": {"text": "pick up the blue block"},
    "another state": {"proprioception": torch.zeros(BATCH, STATE_DIM)},
    "a black image": {"images": torch.zeros(BATCH, CAMERAS, 3, 32, 32)},
    "another image": {"images": make_batch(seed=2)["images"]},
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_input_changes_the_actions(build, change):
    model = build()
    before, after = decision_of(model), decision_of(model, **CHANGES[change])
    ignored = change == "another text" and model.framework in WITHOUT_LANGUAGE
    assert torch.allclose(before, after, atol=1e-4) == ignored


def test_the_order_of_cameras_matters(build):
    model = build()
    batch = make_batch()
    swapped = {**batch, "images": batch["images"].flip(1)}
    before, after = features_of(model(**batch)), features_of(model(**swapped))
    assert not torch.allclose(before, after, atol=1e-4)


def test_images_without_a_camera_axis_are_those_of_one_camera(build):
    model, batch = build(num_cameras=1), observation(cameras=1)
    flat = {**batch, "images": batch["images"][:, 0]}
    expected = model.predict_action(**batch, generator=seeded())
    assert torch.equal(model.predict_action(**flat, generator=seeded()), expected)


def test_a_model_without_state_predicts(build):
    assert build().predict_action(**observation(proprioception=None)).isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.rand(3, 32, 32)}, r"images must be \[B, 3, H, W\] or .*\[3, 32, 32\]"),
        ({"images": torch.rand(3, 1, 3, 32, 32)}, "images must be from 2 cameras .*got 1"),
        ({"images": "picture.png"}, "images must be a tensor.*got str"),
        ({"proprioception": torch.rand(3, 6)}, r"\[3, 5\] \(batch, state_dim\).*got .*\[3, 6\]"),
        ({"proprioception": "red"}, r"proprioception must be a tensor \[3, 5\].*got str"),
        ({"actions": torch.rand(3, 4, 2)}, r"actions must be \[3, 4, 3\].*got \[3, 4, 2\]"),
        ({"actions": torch.rand(3, 4)}, r"actions must be \[3, 4, 3\].*got \[3, "),
        ({"text": ["one", "two"]}, "text must be one string or a list of 3.*got 2"),
        ({"text": []}, "text must be one string or a list of 3.*got 0"),
        ({"text": 5}, "text must be one string or a list of 3.*got int"),
        ({"text": b"lift"}, "text must be one string or a list of 3.*got bytes"),
        ({"text": [1, 2, 3]}, "text must be strings, got a list of int"),
        ({"images": torch.rand(3, 0, 3, 32, 32)}, r"at least one row, camera.*\[3, 0, 3, 32"),
        ({"images": torch.rand(0, 2, 3, 32, 32)}, r"at least one row, camera.*\[0, 2, 3, 32"),
        ({"images": torch.zeros(3, 2, 3, 32, 32).byte()}, "images must be floating point"),
        ({"actions": np.zeros((3, 4, 3))}, r"actions must be a tensor \[3, 4, 3\], got ndarray"),
        ({"action_is_pad": [[False] * 4] * 3}, r"action_is_pad must be a bool tensor \[3, 4\]"),
        ({"action_mask": [[True] * 4] * 3}, "action_mask must be a bool tensor.*got list"),
    ],
)
def test_wrong_inputs_are_refused_with_what_is_expected(build, change, message):
    with pytest.raises(ShapeError, match=message):
        build()(**make_batch(**change))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_and_states_of_another_precision_are_taken(build, dtype):
    model, batch = build(), observation()
    other = {key: batch[key].to(dtype) for key in ("images", "proprioception")}
    rounded = {key: value.float() for key, value in other.items()}
    expected = model.predict_chunk(**{**batch, **rounded}, generator=seeded())
    taken = model.predict_chunk(**{**batch, **other}, generator=seeded())
    torch.testing.assert_close(taken, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", ["action_dim", "chunk_size"])
def test_a_size_of_zero_is_refused(build, size):
    if build().framework == "custom":  # Its size is that of its head.
        with pytest.raises(ConfigError, match=f"{size} must be at least 1, got 0"):
            DDPMActionHead(32, **{"action_dim": 3, size: 0})
        return
    name = "plan_horizon" if size == "chunk_size" and build().framework == "helix" else size
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
        build(**{size: 0})


def test_what_is_no_vlm_is_refused_with_how_to_get_one(build):
    config = build().get_config()
    if "vlm" in config:
        keywords = {key: value for key, value in config.items() if key != "framework"}
        with pytest.raises(ConfigError, match=r"get_vlm\('tiny'\), got 'tiny'"):
            type(build())(**{**keywords, "vlm": "tiny"})


def test_a_misspelt_keyword_is_refused_and_not_passed_over(build):
    is_pad = torch.zeros(BATCH, CHUNK_SIZE, dtype=torch.bool)
    with pytest.raises(TypeError, match=r"keywords \['action_is_padded'\]"):
        build()(**make_batch(), action_is_padded=is_pad)


def test_bfloat16_autocast_gives_a_finite_float32_loss(build):
    with torch.autocast("cpu", torch.bfloat16):
        loss = build().train()(**make_batch())["loss"]
    assert loss.dtype == torch.float32
    loss.backward()
    assert loss.isfinite()


def predict_chunk(model, seed=0, **overrides):
    return model.predict_chunk(**observation(), generator=seeded(seed), **overrides)


def old_chunk(seed=2):
    return torch.rand(BATCH, CHUNK_SIZE, ACTION_DIM, generator=seeded(seed)) - 0.5


def test_committed_steps_are_the_first_of_the_chunk_exactly(build):
    model, old = build(), old_chunk()
    for num_steps in range(CHUNK_SIZE):
        committed = old[:, :num_steps]
        chunk = predict_chunk(model, committed=committed)
        assert torch.equal(chunk[:, :num_steps], committed)
        guided = predict_chunk(model, committed=committed, overlap=old[:, num_steps:])
        assert torch.equal(guided[:, :num_steps], committed)


def test_no_committed_steps_change_nothing(build):
    model = build()
    plain = predict_chunk(model)
    assert torch.equal(predict_chunk(model, committed=None), plain)
    torch.testing.assert_close(predict_chunk(model, committed=old_chunk()[:, :0]), plain)


def test_chunk_after_committed_steps_is_reproducible(build):
    model, old = build(), old_chunk()
    for steps in ({"committed": old[:, :2]}, {"committed": old[:, :1], "overlap": old[:, 1:]}):
        assert torch.equal(predict_chunk(model, **steps), predict_chunk(model, **steps))


# An untrained network that predicts noise is near the ideal denoiser; one that predicts the sample
# is anywhere.
SAMPLERS = {
    "custom": partial(
        build_custom,
        action_head=DDPMActionHead(32, ACTION_DIM, CHUNK_SIZE, hidden_dim=32, diffusion_steps=10),
    ),
    "gr00t": partial(build_gr00t, prediction="epsilon"),
    "gr00t flow": BUILDERS["gr00t flow"],
    "gr00t reference": BUILDERS["gr00t reference"],
    "gr00t adaln_cross ddim": partial(
        build_gr00t, **SMALL_DIT, process="ddim", prediction="epsilon"
    ),
    "octo diffusion": partial(
        build_octo, head="diffusion", diffusion_steps=10, prediction="epsilon"
    ),
    "pi0": build_pi0,
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_guidance_keeps_the_chunk_closer_to_the_old_one(name):
    torch.manual_seed(0)
    model, old = SAMPLERS[name]().eval(), old_chunk()
    frozen = predict_chunk(model, committed=old[:, :1])
    guided = predict_chunk(model, committed=old[:, :1], overlap=old[:, 1:])
    distances = [(chunk - old)[:, 1:].norm(dim=(1, 2)) for chunk in (guided, frozen)]
    assert (distances[0] < distances[1]).all()


def test_every_framework_with_a_sampler_is_under_this_law():
    sampling = {name.split()[0] for name, build in BUILDERS.items() if build().inpaints}
    assert sampling == {name.split()[0] for name in SAMPLERS}


def test_committed_steps_shape_the_rest_of_a_sampled_chunk(build):
    model, old = build(), old_chunk()
    rest = [predict_chunk(model, committed=steps)[:, 2:] for steps in (old[:, :2], -old[:, :2])]
    assert torch.equal(*rest) != model.inpaints


@pytest.mark.parametrize(
    ("num_committed", "num_overlapping", "width"),
    [(CHUNK_SIZE, 0, ACTION_DIM), (2, CHUNK_SIZE - 1, ACTION_DIM), (1, 1, ACTION_DIM + 1)],
)
def test_committed_steps_that_do_not_fit_are_refused(build, num_committed, num_overlapping, width):
    with pytest.raises(ShapeError, match="committed"):
        predict_chunk(
            build(),
            committed=torch.zeros(BATCH, num_committed, width),
            overlap=torch.zeros(BATCH, num_overlapping, width),
        )
