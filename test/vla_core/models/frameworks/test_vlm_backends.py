# SPDX-License-Identifier: MIT
"""Every framework on every vision-language model, each in its smallest size."""

from functools import partial

import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.frameworks import (
    GR00TVLA,
    RT2VLA,
    CustomVLA,
    HelixVLA,
    OpenVLA,
    Pi0VLA,
)
from vla_core.models.vlm import AbstractVLM, available_vlms, get_vlm

BINS = 8
SMALL_TINY = {
    "image_size": 32,
    "hidden_size": 16,
    "depth": 1,
    "num_heads": 2,
    "num_action_tokens": BINS,
}
TEXTS = ["pick up the red block", "lift"]
STATE = torch.linspace(-1, 1, 8).view(2, 4)
SIZES = {"action_dim": 3, "state_dim": 4, "chunk_size": 2}


def build_helix(vlm, chunk_size, **sizes):
    settings = {"plan_dim": 16, "hidden_dim": 16, "depth": 1, "num_cameras": 2}
    return HelixVLA(vlm, plan_horizon=chunk_size, freeze_vlm=False, **settings, **sizes)


FRAMEWORKS = {
    "custom": lambda vlm, **sizes: CustomVLA(vlm=vlm, hidden_dim=16, num_cameras=2, **sizes),
    "gr00t": partial(GR00TVLA, hidden_dim=16, diffusion_steps=4, freeze_vlm=False),
    "gr00t adaln_cross": partial(
        GR00TVLA,
        hidden_dim=16,
        freeze_vlm=False,
        conditioning="adaln_cross",
        process="flow",
        num_blocks=2,
        num_heads=2,
    ),
    "helix": build_helix,
    "openvla autoregressive": partial(
        OpenVLA, action_token_pattern="autoregressive", num_bins=BINS
    ),
    "openvla last": partial(OpenVLA, hidden_dim=16),
    "openvla oft": partial(OpenVLA, hidden_dim=16, action_token_pattern="oft"),
    "openvla special": partial(
        OpenVLA, hidden_dim=16, action_token_pattern="special", num_action_tokens=2
    ),
    "pi0": partial(Pi0VLA, hidden_dim=16, num_state_tokens=8, flow_steps=3),
    "rt2": partial(RT2VLA, num_bins=BINS, temperature=0.0),
}
# These put tokens after what the VLM has read.
CONTINUING = ("openvla autoregressive", "openvla oft", "openvla special", "pi0", "rt2")

PAIRS = [(framework, vlm) for vlm in available_vlms() for framework in FRAMEWORKS]


class EncoderOnly(AbstractVLM):
    name = "encoder-only"
    hidden_size = 4

    def encode(self, images, text):
        raise NotImplementedError

    def get_config(self):
        return {"name": self.name}


def make_vlm(name, **keywords):
    if name == "tiny":
        return get_vlm("tiny", **SMALL_TINY)
    pytest.importorskip("transformers")
    return get_vlm(name, size="tiny", **keywords)


@pytest.fixture(params=PAIRS, ids=" on ".join)
def model(request):
    framework, vlm = request.param
    torch.manual_seed(0)
    policy = FRAMEWORKS[framework](make_vlm(vlm), **SIZES)
    with torch.no_grad():  # Zero-initialised layers would hide what lies before them.
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return policy.eval()


def make_images():
    return torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def make_actions():
    return torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_loss_teaches_the_vlm(model):
    loss = model.train()(make_images(), TEXTS, STATE, actions=make_actions())["loss"]
    loss.backward()
    taught = [p.grad is not None and bool(p.grad.any()) for p in model.vlm.parameters()]
    assert loss.isfinite()
    assert sum(taught) > 0.5 * len(taught)


def test_frozen_vlm_gets_no_gradient(model):
    model.freeze_backbone()
    model.train()(make_images(), TEXTS, STATE, actions=make_actions())["loss"].backward()
    assert all(p.grad is None for p in model.vlm.parameters())
    assert not any(module.training for module in model.vlm.modules())


def test_images_and_text_change_what_the_policy_sees(model):
    def see(*observation):
        outputs = model(*observation)
        return outputs["plan"] if model.framework == "helix" else outputs["features"]

    seen = see(make_images(), TEXTS, STATE)
    black = see(torch.zeros_like(make_images()), TEXTS, STATE)
    other = see(make_images(), "push the green cup away", STATE)
    assert not torch.allclose(seen, black, atol=1e-5)
    assert not torch.allclose(seen, other, atol=1e-5)


def test_saved_policy_predicts_the_same(model, tmp_path):
    def predict(policy):
        generator = torch.Generator().manual_seed(0)
        return policy.predict_action(make_images(), TEXTS, STATE, generator=generator)

    model.save_pretrained(tmp_path)
    assert torch.equal(predict(type(model).from_pretrained(tmp_path)), predict(model))


@pytest.mark.parametrize("framework", CONTINUING)
def test_a_vlm_that_only_encodes_is_refused_where_tokens_have_to_follow(framework):
    with pytest.raises(ConfigError, match="vlm 'encoder-only' has no "):
        FRAMEWORKS[framework](EncoderOnly(), **SIZES).predict_action(make_images(), TEXTS, STATE)


@pytest.mark.parametrize("framework", sorted(FRAMEWORKS))
def test_vlm_in_bfloat16_serves_a_policy_in_float32(framework):
    policy = FRAMEWORKS[framework](make_vlm("smolvlm", dtype="bfloat16"), **SIZES)
    loss = policy(make_images(), TEXTS, STATE, actions=make_actions())["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert policy.predict_action(make_images(), TEXTS, STATE).dtype == torch.float32
