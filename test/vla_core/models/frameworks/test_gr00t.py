# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.frameworks import GR00TVLA
from vla_core.models.vlm import TinyVLM, get_vlm


def make_model(**overrides):
    torch.manual_seed(0)
    vlm = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2)
    settings = {"action_dim": 3, "state_dim": 5, "hidden_dim": 32, "chunk_size": 4, **overrides}
    model = GR00TVLA(vlm, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def make_images(batch=3):
    return torch.rand(batch, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_documented_example_runs():
    model = GR00TVLA(
        vlm=get_vlm("tiny", image_size=32, hidden_size=16, depth=1, num_heads=2),
        action_dim=7,
        state_dim=14,
        hidden_dim=512,
        num_cameras=2,
        diffusion_steps=100,
        freeze_vlm=True,
    )
    images, state = make_images(2), torch.rand(2, 14)
    model(images, "pick up the block", state, torch.rand(2, 7))["loss"].backward()
    assert model.predict_action(images, "pick up the block", state).shape == (2, 7)


def test_shipped_size_fits_the_package():
    model = GR00TVLA(get_vlm("tiny"), action_dim=7, state_dim=7, hidden_dim=256, chunk_size=16)
    assert model.get_num_parameters() < 2_400_000


def test_cached_vlm_features_give_what_the_images_give():
    model, images, text = make_model(), make_images(), ["red", "green", "blue"]
    cached = model.encode_vlm(images, text)
    state, actions = torch.rand(3, 5), torch.rand(3, 4, 3)
    order = torch.tensor([2, 0])
    direct = model(
        images[order],
        [text[i] for i in order],
        state[order],
        actions[order],
        generator=torch.Generator().manual_seed(0),
    )
    from_cache = model(
        None,
        proprioception=state[order],
        actions=actions[order],
        vlm_features=cached.rows(order),
        generator=torch.Generator().manual_seed(0),
    )
    torch.testing.assert_close(direct["loss"], from_cache["loss"])


def test_frozen_vlm_features_carry_no_graph():
    assert not make_model().encode_vlm(make_images(), "red").features.requires_grad


def test_dropped_state_is_the_missing_state():
    model = make_model(state_dropout=1.0)
    images = make_images()
    hidden = model.train()(images, "red", torch.rand(3, 5))["features"]
    assert torch.equal(hidden, model(images, "red")["features"])


def test_state_is_never_dropped_in_eval_mode():
    images, state = make_images(), torch.rand(3, 5)
    always, never = make_model(state_dropout=1.0), make_model(state_dropout=0.0)
    assert torch.equal(
        always(images, "red", state)["features"], never(images, "red", state)["features"]
    )


def test_fewer_steps_are_a_setting_of_the_call():
    model = make_model(sampler="ddim")
    calls = []
    model.action_head.denoiser.register_forward_hook(lambda *_: calls.append(1))
    model.predict_action(make_images(), "red")
    model.predict_action(make_images(), "red", inference_steps=4)
    assert len(calls) == 10 + 4


def test_training_never_runs_the_sampler():
    model = make_model().train()
    calls = []
    model.action_head.denoiser.register_forward_hook(lambda *_: calls.append(1))
    model(make_images(), "red", torch.rand(3, 5), torch.rand(3, 4, 3))
    assert len(calls) == 1


@pytest.mark.parametrize("both", [True, False])
def test_exactly_one_of_images_and_features_is_asked_for(both):
    model = make_model()
    images = make_images() if both else None
    features = model.encode_vlm(make_images(), "red") if both else None
    with pytest.raises(ConfigError, match="either images or vlm_features"):
        model.predict_action(images, "red", vlm_features=features)


def test_features_of_another_vlm_are_refused():
    other = TinyVLM(image_size=32, hidden_size=8, depth=1, num_heads=2)
    with pytest.raises(ShapeError, match=r"\[B, L, 16\].*got \[3, 32, 8\]"):
        make_model().predict_action(None, vlm_features=other.encode(make_images(), "red"))


def test_padding_cannot_be_given_twice():
    mask = torch.ones(3, 4, dtype=torch.bool)
    with pytest.raises(ConfigError, match="only one"):
        make_model()(
            make_images(), "red", None, torch.rand(3, 4, 3), action_is_pad=~mask, action_mask=mask
        )


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(ShapeError, match=r"action_mask must be a bool tensor.*float32"):
        make_model()(make_images(), "red", None, torch.rand(3, 4, 3), action_mask=torch.ones(3, 4))


def test_unfreezing_is_kept_in_the_configuration():
    model = make_model(freeze_vlm=True)
    assert model.get_config()["freeze_vlm"] is True
    model.unfreeze_backbone()
    assert model.get_config()["freeze_vlm"] is False


def test_a_width_that_the_heads_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="multiple of 8, got 20"):
        make_model(hidden_dim=20)


def test_gradient_checkpointing_can_be_turned_on():
    model = make_model(freeze_vlm=False).train()
    model.vlm.gradient_checkpointing_enable()
    model(make_images(), "red", torch.rand(3, 5), torch.rand(3, 4, 3))["loss"].backward()
    assert model.vlm.word_embedding.weight.grad.abs().sum() > 0


SMALL_DIT = {
    "conditioning": "adaln_cross",
    "num_blocks": 2,
    "num_heads": 2,
    "num_context_blocks": 1,
    "num_future_tokens": 3,
}


@pytest.mark.parametrize("process", ["ddpm", "ddim", "flow"])
@pytest.mark.parametrize("conditioning", [{}, SMALL_DIT], ids=["film", "adaln_cross"])
def test_every_conditioning_goes_with_every_process(conditioning, process):
    model = make_model(**conditioning, process=process, diffusion_steps=5)
    images, state = make_images(), torch.rand(3, 5)
    losses = model(images, "red", state, torch.rand(3, 4, 3))
    assert ("flow_loss" if process == "flow" else "diffusion_loss") in losses
    assert model.predict_action(images, "red", state).isfinite().all()


def test_process_goes_before_the_sampler():
    noise = torch.randn(3, 4, 3)
    by_process = make_model(process="ddim").predict_action(make_images(), "red", noise=noise)
    by_sampler = make_model(sampler="ddim").predict_action(make_images(), "red", noise=noise)
    assert torch.equal(by_process, by_sampler)


@pytest.mark.parametrize("conditioning", [{}, SMALL_DIT], ids=["film", "adaln_cross"])
def test_a_flow_takes_four_steps(conditioning):
    model, calls = make_model(**conditioning, process="flow"), []
    name = "action_out" if conditioning else "denoiser"
    getattr(model.action_head, name).register_forward_hook(lambda *_: calls.append(1))
    model.predict_action(make_images(), "red")
    assert len(calls) == 4


def test_the_reference_preset_is_the_published_model():
    vlm = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2)
    small = {"hidden_dim": 32, "num_blocks": 2, "num_heads": 2, "num_context_blocks": 1}
    config = GR00TVLA.from_preset("reference", vlm=vlm, **small).get_config()
    settings = ("conditioning", "process", "chunk_size", "inference_steps", "num_future_tokens")
    assert [config[key] for key in settings] == ["adaln_cross", "flow", 16, 4, 32]
    published = GR00TVLA.presets["reference"]
    assert (published["hidden_dim"], published["num_heads"]) == (32 * 48, 32)
    assert (published["num_blocks"], published["num_context_blocks"]) == (16, 4)


def test_outputs_without_actions_are_enough_for_the_loss():
    model, actions = make_model(**SMALL_DIT, process="flow"), torch.rand(3, 4, 3)
    outputs = model(make_images(), "red", torch.zeros(3, 5))
    losses = [
        model(make_images(), "red", torch.zeros(3, 5), actions, generator=draws)["loss"]
        if direct
        else model.compute_loss(outputs, actions, generator=draws)["loss"]
        for direct in (True, False)
        for draws in [torch.Generator().manual_seed(0)]
    ]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"conditioning": "cross"}, "must be one of 'film', 'adaln_cross', got 'cross'"),
        ({"process": "euler"}, "must be one of 'ddpm', 'ddim', 'flow', got 'euler'"),
        ({"state_dropout": 2}, "state_dropout must be from 0 to 1, got 2"),
    ],
)
def test_impossible_variants_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        make_model(**setting)
