# SPDX-License-Identifier: MIT
"""A small model of every framework, for what all of them promise, and what it is given."""

from functools import partial

import pytest
import torch

from vla_core.models.action_heads import DDPMActionHead
from vla_core.models.encoders import PatchVisionEncoder
from vla_core.models.frameworks import (
    ACTVLA,
    GR00TVLA,
    RT2VLA,
    CustomVLA,
    HelixVLA,
    OctoVLA,
    OpenVLA,
    Pi0VLA,
)
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


@pytest.fixture
def builders():
    """Return the constructors of all small models."""
    return BUILDERS


@pytest.fixture
def samplers():
    """Return the constructors of small models that draw a chunk step by step."""
    return SAMPLERS


@pytest.fixture(params=SAMPLERS)
def build_sampler(request):
    """Return the constructor of a small model that draws a chunk step by step."""
    return SAMPLERS[request.param]


@pytest.fixture
def make_batch():
    """Return a function that draws the inputs and true actions of three rows."""

    def make(seed=1, batch=BATCH, cameras=CAMERAS, **overrides):
        draws = torch.Generator().manual_seed(seed)
        return {
            "images": torch.rand(batch, cameras, 3, 32, 32, generator=draws),
            "text": ["pick up the red block", "lift", "pick up the green block"][:batch],
            "proprioception": torch.rand(batch, STATE_DIM, generator=draws),
            "actions": torch.rand(batch, CHUNK_SIZE, ACTION_DIM, generator=draws) * 2.0 - 1.0,
            **overrides,
        }

    return make


@pytest.fixture
def observation(make_batch):
    """Return a function that draws the inputs alone."""

    def observe(**overrides):
        return {k: value for k, value in make_batch(**overrides).items() if k != "actions"}

    return observe
