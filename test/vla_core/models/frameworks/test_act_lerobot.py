# SPDX-License-Identifier: MIT
"""LeRobot's policies give LeRobot's actions; fixtures/lerobot_act/README.md has the making."""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_core.errors import CheckpointError, ConfigError
from vla_core.models.frameworks import ACTVLA, load
from vla_core.models.layers.positional import interleaved_embedding

FIXTURE = Path(__file__).parent / "fixtures" / "lerobot_act"
CAMERAS = ("observation.images.cam_high", "observation.images.wrist")
NORMALIZER = "policy_preprocessor_step_3_normalizer_processor.safetensors"
UNNORMALIZER = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"


def weight(name, shape):
    """Return the weights that the fixture was made with: a formula, so that none are stored."""
    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    value = ((index + np.uint64(zlib.crc32(name.encode()))) * np.uint64(2654435761)) % 2**32
    value = ((value ^ (value >> np.uint64(15))) * np.uint64(2246822519)) % 2**32
    uniform = value.astype(np.float64) / 2**32 - 0.5
    if name.endswith("running_var"):
        weights = 1.0 + 0.5 * uniform
    elif ".bn" in name or "norm" in name or "downsample.1" in name:
        weights = float(name.endswith("weight")) + 0.2 * uniform
    elif len(shape) == 1:
        weights = 0.2 * uniform
    elif "backbone" in name:
        weights = uniform * (24.0 / np.prod(shape[1:])) ** 0.5
    else:
        weights = uniform * (24.0 / shape[-1]) ** 0.5
    return torch.from_numpy(weights.astype(np.float32).reshape(shape))


@pytest.fixture(scope="module")
def weights():
    shapes = json.loads((FIXTURE / "tensors.json").read_text())
    tensors = {name: weight(name, shape) for name, shape in shapes.items()}
    _, length, width = shapes["model.vae_encoder_pos_enc"]
    tensors["model.vae_encoder_pos_enc"] = interleaved_embedding(torch.arange(length), width)[None]
    return tensors


@pytest.fixture(scope="module")
def policy(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("lerobot") / "pretrained_model"
    shutil.copytree(FIXTURE / "policy", folder)
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture
def copy(policy, tmp_path):
    """Return a copy of the policy to be spoilt; its weights are shared until they are written."""
    folder = tmp_path / "policy"
    shutil.copytree(policy, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    (folder / "model.safetensors").symlink_to(policy / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def expected():
    return load_file(FIXTURE / "expected.safetensors")


def observation(expected):
    images = torch.stack([expected[f"input.{camera}"] for camera in CAMERAS], dim=1)
    return images.float() / 255.0, expected["input.observation.state"]


def edit_json(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def rewrite(path, tensors):
    path.unlink()
    save_file(tensors, path)


def test_actions_are_those_of_lerobot(policy, expected):
    model = ACTVLA.from_pretrained(policy)
    actions = model.predict_action(*observation(expected))
    torch.testing.assert_close(actions, expected["output.actions"], rtol=0.0, atol=1e-5)


def test_losses_are_those_of_lerobot(policy, expected, monkeypatch):
    model = ACTVLA.from_pretrained(policy)
    noise = expected["input.latent_noise"]
    monkeypatch.setattr(
        "vla_core.models.action_heads.cvae.draw_noise", lambda like, generator: noise
    )
    images, state = observation(expected)
    is_pad = expected["input.action_is_pad"]
    losses = model(images, None, state, expected["input.action"], action_is_pad=is_pad)
    # LeRobot 0.4 divides the sum over the valid steps by the number of all steps.
    valid_share = (~is_pad).float().mean()
    l1_loss, kl_loss = expected["output.l1_loss"], expected["output.kld_loss"]
    torch.testing.assert_close(losses["reconstruction_loss"] * valid_share, l1_loss)
    torch.testing.assert_close(losses["kl_loss"], kl_loss)
    torch.testing.assert_close(losses["loss"], l1_loss / valid_share + 10.0 * kl_loss)


def test_latent_of_demonstrated_actions_is_that_of_lerobot(policy, expected):
    model = ACTVLA.from_pretrained(policy)
    mean, log_variance = model.posterior(
        model.action_units.normalize(expected["input.action"]),
        model.state_units.normalize(expected["input.observation.state"]),
        ~expected["input.action_is_pad"].unsqueeze(-1),
    )
    torch.testing.assert_close(mean, expected["output.latent_mean"])
    torch.testing.assert_close(log_variance, expected["output.latent_log_variance"])


def test_policy_with_statistics_among_its_weights_gives_the_same_actions(copy, weights, expected):
    legacy = dict(weights)
    for part, name, names in (
        ("normalize_inputs", NORMALIZER, (*CAMERAS, "observation.state")),
        ("normalize_targets", NORMALIZER, ("action",)),
        ("unnormalize_outputs", UNNORMALIZER, ("action",)),
    ):
        for key, value in load_file(copy / name).items():
            feature, statistic = key.rsplit(".", 1)
            if feature in names:
                legacy[f"{part}.buffer_{feature.replace('.', '_')}.{statistic}"] = value
    rewrite(copy / "model.safetensors", legacy)
    for path in copy.glob("policy_*"):
        path.unlink()
    actions = ACTVLA.from_pretrained(copy).predict_action(*observation(expected))
    torch.testing.assert_close(actions, expected["output.actions"], rtol=0.0, atol=1e-5)


def test_opened_policy_is_saved_and_loaded_as_our_own(policy, expected, tmp_path):
    model = ACTVLA.from_pretrained(policy)
    model.save_pretrained(tmp_path / "ours")
    actions = load(tmp_path / "ours").predict_action(*observation(expected))
    assert torch.equal(actions, model.predict_action(*observation(expected)))


def test_missing_weight_is_refused(copy, weights):
    rest = {k: v for k, v in weights.items() if k != "model.decoder.norm.weight"}
    rewrite(copy / "model.safetensors", rest)
    with pytest.raises(
        CheckpointError, match=r"missing in the file \(1\):\n +transformer.decoder_norm.weight"
    ):
        ACTVLA.from_pretrained(copy)


def test_unknown_weight_is_refused(copy, weights):
    rewrite(copy / "model.safetensors", {**weights, "model.fuser.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"does not have: \['model.fuser.weight'\]"):
        ACTVLA.from_pretrained(copy)


def test_misshapen_weight_is_refused(copy, weights):
    rewrite(copy / "model.safetensors", {**weights, "model.action_head.bias": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"action_output.bias: \[3\] in the file, \[4\]"):
        ACTVLA.from_pretrained(copy)


def test_missing_statistics_are_refused(copy):
    statistics = load_file(copy / NORMALIZER)
    del statistics["observation.state.std"]
    rewrite(copy / NORMALIZER, statistics)
    with pytest.raises(CheckpointError, match=r"lacks \['observation.state.std'\].*MEAN_STD"):
        ACTVLA.from_pretrained(copy)


def test_missing_processor_is_refused(copy):
    (copy / "policy_postprocessor.json").unlink()
    with pytest.raises(CheckpointError, match=r"policy_postprocessor.json does not exist"):
        ACTVLA.from_pretrained(copy)


def test_unknown_processor_step_is_refused(copy):
    edit_json(
        copy / "policy_preprocessor.json",
        lambda content: content["steps"].append({"registry_name": "crop_processor", "config": {}}),
    )
    with pytest.raises(ConfigError, match=r"steps \['crop_processor'\] that are not supported"):
        ACTVLA.from_pretrained(copy)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"type": "diffusion"}, CheckpointError, "policy of type 'diffusion', not 'act'"),
        ({"vision_backbone": "resnet50"}, ConfigError, "'resnet50' is not supported"),
        ({"replace_final_stride_with_dilation": True}, ConfigError, "is not supported"),
        (
            {"input_features": {"observation.environment_state": {"type": "ENV", "shape": [3]}}},
            ConfigError,
            "only cameras",
        ),
        (
            {"input_features": {"observation.state": {"type": "STATE", "shape": [3]}}},
            ConfigError,
            "no camera",
        ),
    ],
)
def test_policy_that_is_not_supported_is_refused(copy, changes, error, message):
    edit_json(copy / "config.json", lambda content: content.update(changes))
    with pytest.raises(error, match=message):
        ACTVLA.from_pretrained(copy)
