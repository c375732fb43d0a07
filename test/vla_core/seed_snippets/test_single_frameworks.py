# SPDX-License-Identifier: MIT
"""What the documented examples show of one framework alone."""

import pytest
import torch
from torch import nn

from vla_core.models.encoders import PatchVisionEncoder
from vla_core.models.frameworks import ACTVLA, GR00TVLA, CustomVLA
from vla_core.models.vlm import get_vlm

BATCH = 2


def without_actions(batch):
    return {key: value for key, value in batch.items() if key != "actions"}


def test_gr00t_quick_start_with_the_shipped_vlm():
    vlm = get_vlm("tiny", pretrained=True)
    model = GR00TVLA(vlm=vlm, action_dim=7, state_dim=14)
    images, state = torch.rand(1, 2, 3, 96, 96), torch.rand(1, 14)
    assert model(images, ["lift"], state, torch.rand(1, 7))["loss"].isfinite()


def test_gr00t_with_three_cameras(make_vlm):
    cam1, cam2, cam3 = torch.rand(3, BATCH, 3, 32, 32)
    multi_cam_images = torch.stack([cam1, cam2, cam3], dim=1)
    model = GR00TVLA(vlm=make_vlm(), action_dim=7, num_cameras=3)
    text, state, actions = "lift", torch.rand(BATCH, 14), torch.rand(BATCH, 7)
    assert model(multi_cam_images, text, state, actions)["loss"].isfinite()


@pytest.mark.parametrize("settings", [{"diffusion_steps": 10}, {"sampler": "ddim"}])
def test_gr00t_with_fewer_steps(settings, make_vlm, make_batch):
    model = GR00TVLA(vlm=make_vlm(), **settings).eval()
    calls = []
    model.action_head.denoiser.register_forward_hook(lambda *_: calls.append(1))
    batch = make_batch("gr00t")
    assert model.predict_action(**without_actions(batch)).shape == (BATCH, 7)
    assert len(calls) == 10


def test_pi0_loss_includes_the_vq_loss(make_model, make_batch):
    outputs = make_model("pi0")(**make_batch("pi0"))
    torch.testing.assert_close(outputs["loss"], outputs["flow_loss"] + outputs["vq_loss"])


@pytest.mark.parametrize("pattern", ["last", "first", "mean", "special"])
def test_openvla_with_a_sentence_and_every_pattern(pattern, make_model, make_batch):
    model, batch = make_model("openvla", pattern=pattern), make_batch("openvla")
    outputs = model(
        images=batch["images"],
        text="Pick up the red block and place it in the box",
        proprioception=batch["proprioception"],
        actions=batch["actions"],
    )
    assert outputs["loss"].isfinite()


def test_rt2_without_state_and_with_a_temperature(make_model, make_batch):
    model, batch = make_model("rt2"), make_batch("rt2")
    outputs = model(batch["images"], batch["text"], actions=batch["actions"])
    assert outputs["loss"].isfinite()
    actions = model.predict_action(batch["images"], batch["text"], temperature=0.8)
    assert actions.shape == (BATCH, 7)
    assert actions.abs().max() <= 1.0


def test_act_learns_chunks_and_predicts_from_images_and_state(make_model, make_batch):
    model, batch = make_model("act"), make_batch("act")
    images, proprioception = batch["images"], batch["proprioception"]
    action_sequences = torch.randn(BATCH, 10, 7)
    outputs = model(images, proprioception=proprioception, actions=action_sequences)
    assert outputs["loss"].isfinite()
    assert {"reconstruction_loss", "kl_loss"} <= set(outputs)
    action_chunk = model.predict_action(images, proprioception)
    assert action_chunk.shape == (BATCH, 10, 7)


def test_act_with_the_documented_defaults():
    encoder = PatchVisionEncoder(64)
    model = ACTVLA(vision_encoder=encoder, action_dim=7, chunk_size=10)
    images, state = torch.rand(1, 3, 32, 32), torch.rand(1, 14)
    action_chunk = model.predict_action(images, state)
    assert len([action_chunk[0, t] for t in range(10)]) == action_chunk.shape[1]


def test_helix_at_every_level(make_model, make_batch):
    model, batch = make_model("helix"), make_batch("helix")
    images, text, state, actions = batch.values()
    outputs = model(images, text, state, actions)
    assert outputs["plan"].shape == (BATCH, 256)
    assert outputs["action_sequence"].shape == (BATCH, 10, 7)
    assert outputs["actions"].shape == (BATCH, 7)

    action, action_seq = model.predict_action(images, text, state, return_sequence=True)
    assert (action.shape, action_seq.shape) == ((BATCH, 7), (BATCH, 10, 7))

    outputs = model(images, text, state)
    new_plan = model.high_level_planning(images, text)
    torch.testing.assert_close(outputs["plan"], new_plan)


def test_custom_by_subclass(make_vlm, make_batch):
    class MyCustomVLA(CustomVLA):
        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.my_layer = nn.Linear(512, 512)

        def _process_features(self, vision, text, state):
            features = super()._process_features(vision, text, state)
            return self.my_layer(features)

    model = MyCustomVLA(action_dim=7, vlm=make_vlm(), state_dim=14)
    model(**make_batch("custom"))["loss"].backward()
    assert model.my_layer.weight.grad.abs().sum() > 0


def test_octo_with_a_task_and_a_history(make_model, make_batch):
    model, batch = make_model("octo"), make_batch("octo")
    outputs = model(
        images=batch["images"],
        proprioception=batch["proprioception"],
        task_id=torch.tensor([3, 99]),
        history_images=torch.rand(BATCH, 5, 3, 32, 32),
        actions=batch["actions"],
    )
    assert outputs["loss"].isfinite()
    assert model(
        images=batch["images"],
        task_id=torch.tensor([3, 99]),
        proprioception=batch["proprioception"],
        actions=batch["actions"],
    )["loss"].isfinite()
