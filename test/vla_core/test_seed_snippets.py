# SPDX-License-Identifier: MIT
"""Every call form of the frameworks' interface, on a VLM that needs no download."""

import pytest
import torch
from torch import nn

from vla_core.errors import ConfigError
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
    available_frameworks,
)
from vla_core.models.fusion import CrossAttentionFusion
from vla_core.models.vlm import get_vlm

BATCH = 2
NAMES = ("act", "custom", "gr00t", "helix", "octo", "openvla", "pi0", "rt2")
WITH_VLM = [name for name in NAMES if name not in ("act", "octo")]


@pytest.fixture(autouse=True)
def same_numbers_on_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def make_vlm(**keywords):
    return get_vlm("tiny", image_size=32, hidden_size=32, depth=2, num_heads=2, **keywords)


def make_gr00t(**keywords):
    return GR00TVLA(
        vlm=make_vlm(),
        action_dim=7,
        state_dim=14,
        hidden_dim=512,
        num_cameras=2,
        diffusion_steps=100,
        freeze_vlm=True,
        **keywords,
    )


def make_pi0():
    return Pi0VLA(
        vlm=make_vlm(),
        action_dim=7,
        state_dim=14,
        hidden_dim=512,
        num_state_tokens=1024,
        flow_steps=50,
        fine_tune_vlm=True,
    )


def make_octo():
    return OctoVLA(
        vision_encoder=PatchVisionEncoder(64),
        action_dim=7,
        state_dim=14,
        hidden_dim=512,
        num_tasks=100,
        history_length=5,
    )


def make_openvla(pattern="last"):
    return OpenVLA(
        vlm=make_vlm(),
        action_dim=7,
        hidden_dim=512,
        num_action_tokens=1,
        fine_tune_vlm=True,
        action_token_pattern=pattern,
    )


def make_rt2():
    return RT2VLA(
        vlm=make_vlm(num_action_tokens=256),
        action_dim=7,
        num_bins=256,
        action_bounds=[(-1, 1)] * 7,
        temperature=1.0,
    )


def make_act():
    return ACTVLA(
        vision_encoder=PatchVisionEncoder(64),
        action_dim=7,
        state_dim=14,
        chunk_size=10,
        latent_dim=32,
        kl_weight=0.0001,
    )


def make_helix():
    return HelixVLA(
        vlm=make_vlm(),
        action_dim=7,
        state_dim=14,
        plan_dim=256,
        plan_horizon=10,
        freeze_vlm=True,
    )


def make_custom():
    my_vlm = make_vlm()
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


MAKERS = {name: globals()[f"make_{name}"] for name in NAMES}
each_framework = pytest.mark.parametrize("name", NAMES)
each_framework_with_a_vlm = pytest.mark.parametrize("name", WITH_VLM)


def make_batch(name):
    """Return the four arguments of every framework, in the shapes that its example has."""
    chunk = {"act": (10,), "helix": (10,)}.get(name, ())
    cameras = (2,) if name == "gr00t" else ()
    return {
        "images": torch.rand(BATCH, *cameras, 3, 32, 32),
        "text": ["pick up the cup", "open the drawer"],
        "proprioception": torch.rand(BATCH, 14),
        "actions": torch.rand(BATCH, *chunk, 7) * 2 - 1,
    }


def without_actions(batch):
    return {key: value for key, value in batch.items() if key != "actions"}


def test_the_eight_frameworks_are_there_and_each_is_run_here():
    assert set(NAMES) <= set(available_frameworks())
    assert {type(MAKERS[name]()).framework for name in NAMES} == set(NAMES)


@each_framework
def test_common_interface(name):
    model, batch = MAKERS[name](), make_batch(name)
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
    assert actions.shape[0] == BATCH
    assert actions.shape[-1] == 7

    assert model.get_config()["action_dim"] == 7
    model.freeze_backbone()
    frozen = model.get_num_parameters(trainable_only=True)
    model.unfreeze_backbone()
    assert model.get_num_parameters(trainable_only=True) > frozen


@each_framework
def test_four_arguments_by_position(name):
    model, batch = MAKERS[name](), make_batch(name)
    images, text, proprioception, actions = batch.values()
    assert model(images, text, proprioception, actions)["loss"].isfinite()


@each_framework
def test_basic_training_loop(name):
    model, batch = MAKERS[name](), make_batch(name)
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
def test_mixed_precision_and_gradient_accumulation(name):
    model, batch = MAKERS[name](), make_batch(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch)["loss"] / 2
        loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    optimizer.step()
    optimizer.zero_grad()


@each_framework
def test_component_losses_are_tracked_apart(name):
    model, batch = MAKERS[name](), make_batch(name)
    outputs = model(**batch)
    components = {key: value.item() for key, value in outputs.items() if key.endswith("_loss")}
    assert components
    images, text, state, actions = batch.values()
    losses = model.compute_loss(model(images, text, state), actions)
    assert losses["loss"].isfinite()
    assert {key for key in losses if key.endswith("_loss")} <= components.keys()


@each_framework
def test_curriculum_from_small_motions_to_large_ones(name):
    model, batch = MAKERS[name](), make_batch(name)
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


@each_framework
def test_saving_to_a_file_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = MAKERS[name]().eval()
    model.save_pretrained("checkpoints/model.pt")
    inputs = without_actions(make_batch(name))
    loaded = type(model).from_pretrained("checkpoints/model.pt")
    expected, actual = (
        m.predict_action(**inputs, generator=torch.Generator().manual_seed(0))
        for m in (model, loaded)
    )
    assert torch.equal(expected, actual)


@each_framework
def test_inference(name):
    model, batch = MAKERS[name](), make_batch(name)
    model.eval()
    with torch.no_grad():
        predicted_actions = model.predict_action(
            images=batch["images"],
            text="Pick up the cup",
            proprioception=batch["proprioception"],
        )
    assert predicted_actions.isfinite().all()


@each_framework
def test_ensemble_of_several_runs(name):
    model, inputs = MAKERS[name]().eval(), without_actions(make_batch(name))
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


# RT-2 without a state is the VLM and nothing else: frozen, it has nothing to learn.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "rt2"])
def test_frozen_first_and_fine_tuned_later(name):
    model, batch = MAKERS[name](), make_batch(name)
    model.freeze_backbone()
    model(**batch)["loss"].backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    model.unfreeze_backbone()
    model(**batch)["loss"].backward()
    assert any(parameter.grad is not None for parameter in model.backbone.parameters())


def test_rt2_says_that_frozen_it_has_nothing_to_learn():
    model, batch = make_rt2().train(), make_batch("rt2")
    model.freeze_backbone()
    with pytest.raises(ConfigError, match=r"nothing to train.*unfreeze_backbone\(\).*state_dim"):
        model(**batch)
    assert model.eval()(**batch)["loss"].isfinite()
    model.unfreeze_backbone()
    model.train()(**batch)["loss"].backward()
    assert any(parameter.grad is not None for parameter in model.backbone.parameters())


@each_framework_with_a_vlm
def test_gradient_checkpointing_of_the_vlm(name):
    model, batch = MAKERS[name](), make_batch(name)
    model.unfreeze_backbone()
    model.vlm.gradient_checkpointing_enable()
    model(**batch)["loss"].backward()
    assert any(parameter.grad is not None for parameter in model.vlm.parameters())


def test_gr00t_quick_start_with_the_shipped_vlm():
    vlm = get_vlm("tiny", pretrained=True)
    model = GR00TVLA(vlm=vlm, action_dim=7, state_dim=14)
    images, state = torch.rand(1, 2, 3, 96, 96), torch.rand(1, 14)
    assert model(images, ["lift"], state, torch.rand(1, 7))["loss"].isfinite()


def test_gr00t_with_three_cameras():
    cam1, cam2, cam3 = torch.rand(3, BATCH, 3, 32, 32)
    multi_cam_images = torch.stack([cam1, cam2, cam3], dim=1)
    model = GR00TVLA(vlm=make_vlm(), action_dim=7, num_cameras=3)
    text, state, actions = "lift", torch.rand(BATCH, 14), torch.rand(BATCH, 7)
    assert model(multi_cam_images, text, state, actions)["loss"].isfinite()


@pytest.mark.parametrize("settings", [{"diffusion_steps": 10}, {"sampler": "ddim"}])
def test_gr00t_with_fewer_steps(settings):
    model = GR00TVLA(vlm=make_vlm(), **settings).eval()
    calls = []
    model.action_head.denoiser.register_forward_hook(lambda *_: calls.append(1))
    batch = make_batch("gr00t")
    assert model.predict_action(**without_actions(batch)).shape == (BATCH, 7)
    assert len(calls) == 10


def test_pi0_loss_includes_the_vq_loss():
    outputs = make_pi0()(**make_batch("pi0"))
    torch.testing.assert_close(outputs["loss"], outputs["flow_loss"] + outputs["vq_loss"])


@pytest.mark.parametrize("pattern", ["last", "first", "mean", "special"])
def test_openvla_with_a_sentence_and_every_pattern(pattern):
    model, batch = make_openvla(pattern), make_batch("openvla")
    outputs = model(
        images=batch["images"],
        text="Pick up the red block and place it in the box",
        proprioception=batch["proprioception"],
        actions=batch["actions"],
    )
    assert outputs["loss"].isfinite()


def test_rt2_without_state_and_with_a_temperature():
    model, batch = make_rt2(), make_batch("rt2")
    outputs = model(batch["images"], batch["text"], actions=batch["actions"])
    assert outputs["loss"].isfinite()
    actions = model.predict_action(batch["images"], batch["text"], temperature=0.8)
    assert actions.shape == (BATCH, 7)
    assert actions.abs().max() <= 1.0


def test_act_learns_chunks_and_predicts_from_images_and_state():
    model, batch = make_act(), make_batch("act")
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


def test_helix_at_every_level():
    model, batch = make_helix(), make_batch("helix")
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


def test_custom_by_subclass():
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


def test_octo_with_a_task_and_a_history():
    model, batch = make_octo(), make_batch("octo")
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
