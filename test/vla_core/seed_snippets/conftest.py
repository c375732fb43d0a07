# SPDX-License-Identifier: MIT
"""The eight frameworks as their documented examples build them, on a VLM without download."""

import pytest
import torch

from vla_core.models.action_heads import DDPMActionHead
from vla_core.models.encoders import MLPStateEncoder, PatchVisionEncoder
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
from vla_core.models.vlm import get_vlm

BATCH = 2


def build_vlm(**keywords):
    return get_vlm("tiny", image_size=32, hidden_size=32, depth=2, num_heads=2, **keywords)


def build_gr00t(**keywords):
    return GR00TVLA(
        vlm=build_vlm(),
        action_dim=7,
        state_dim=14,
        hidden_dim=512,
        num_cameras=2,
        diffusion_steps=100,
        freeze_vlm=True,
        **keywords,
    )


def build_pi0():
    return Pi0VLA(
        vlm=build_vlm(),
        action_dim=7,
        state_dim=14,
        hidden_dim=512,
        num_state_tokens=1024,
        flow_steps=50,
        fine_tune_vlm=True,
    )


def build_octo():
    return OctoVLA(
        vision_encoder=PatchVisionEncoder(64),
        action_dim=7,
        state_dim=14,
        hidden_dim=512,
        num_tasks=100,
        history_length=5,
    )


def build_openvla(pattern="last"):
    return OpenVLA(
        vlm=build_vlm(),
        action_dim=7,
        hidden_dim=512,
        num_action_tokens=1,
        fine_tune_vlm=True,
        action_token_pattern=pattern,
    )


def build_rt2():
    return RT2VLA(
        vlm=build_vlm(num_action_tokens=256),
        action_dim=7,
        num_bins=256,
        action_bounds=[(-1, 1)] * 7,
        temperature=1.0,
    )


def build_act():
    return ACTVLA(
        vision_encoder=PatchVisionEncoder(64),
        action_dim=7,
        state_dim=14,
        chunk_size=10,
        latent_dim=32,
        kl_weight=0.0001,
    )


def build_helix():
    return HelixVLA(
        vlm=build_vlm(),
        action_dim=7,
        state_dim=14,
        plan_dim=256,
        plan_horizon=10,
        freeze_vlm=True,
    )


def build_custom():
    my_vlm = build_vlm()
    my_action_head = DDPMActionHead(512, action_dim=7)
    my_state_encoder = MLPStateEncoder(14, 512)
    my_fusion = CrossAttentionFusion(512, 512, 512, output_dim=512)
    return CustomVLA(
        action_dim=7,
        vlm=my_vlm,
        action_head=my_action_head,
        state_encoder=my_state_encoder,
        fusion_module=my_fusion,
        hidden_dim=512,
    )


MAKERS = {
    "act": build_act,
    "custom": build_custom,
    "gr00t": build_gr00t,
    "helix": build_helix,
    "octo": build_octo,
    "openvla": build_openvla,
    "pi0": build_pi0,
    "rt2": build_rt2,
}


@pytest.fixture(autouse=True)
def same_numbers_on_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_vlm():
    """Return a function that builds a small VLM."""
    return build_vlm


@pytest.fixture
def make_model():
    """Return a function that builds the example of a framework."""
    return lambda name, **keywords: MAKERS[name](**keywords)


@pytest.fixture
def make_batch():
    """Return a function that draws a framework's four arguments, shaped as in its example."""

    def draw(name):
        chunk = {"act": (10,), "helix": (10,)}.get(name, ())
        cameras = (2,) if name == "gr00t" else ()
        return {
            "images": torch.rand(BATCH, *cameras, 3, 32, 32),
            "text": ["pick up the cup", "open the drawer"],
            "proprioception": torch.rand(BATCH, 14),
            "actions": torch.rand(BATCH, *chunk, 7) * 2 - 1,
        }

    return draw
