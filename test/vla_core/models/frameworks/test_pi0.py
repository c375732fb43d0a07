# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads.action_expert import blockwise_mask
from vla_core.models.frameworks.pi0 import Pi0Context, Pi0VLA
from vla_core.models.vlm import TinyVLM, get_vlm

MODES = ["vq", "continuous", "text_bins"]


def make_vlm(**overrides):
    settings = {"hidden_size": 16, "depth": 2, "num_heads": 2, "max_text_tokens": 16, **overrides}
    return TinyVLM(image_size=32, **settings)


def make_model(**overrides):
    torch.manual_seed(0)
    settings = {
        "action_dim": 3,
        "state_dim": 5,
        "hidden_dim": 32,
        "num_state_tokens": 16,
        "flow_steps": 5,
        "chunk_size": 4,
        **overrides,
    }
    return Pi0VLA(make_vlm(), **settings).eval()


def make_images(batch=3):
    return torch.rand(batch, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def make_state(batch=3):
    return torch.rand(batch, 5, generator=torch.Generator().manual_seed(1)) * 2.0 - 1.0


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def count_calls(model, name):
    calls, method = [], getattr(model.vlm, name)

    def counted(*args, **keywords):
        calls.append(name)
        return method(*args, **keywords)

    setattr(model.vlm, name, counted)
    return calls


def test_the_documented_example_runs():
    model = Pi0VLA(
        vlm=get_vlm("tiny", image_size=32, hidden_size=16, depth=1, num_heads=2),
        action_dim=7,
        state_dim=14,
        hidden_dim=512,
        num_state_tokens=1024,
        flow_steps=50,
        fine_tune_vlm=True,
    )
    images, state = make_images(2), torch.rand(2, 14)
    outputs = model(images, "pick up the block", state, torch.rand(2, 7))
    outputs["loss"].backward()
    assert "vq_loss" in outputs
    assert model.predict_action(images, "pick up the block", state).shape == (2, 7)


@pytest.mark.parametrize("mode", MODES)
def test_the_vlm_runs_once_for_all_integration_steps(mode):
    model = make_model(state_mode=mode)
    prefills, extensions = count_calls(model, "prefill"), count_calls(model, "extend")
    model.predict_action(make_images(), "lift", make_state(), inference_steps=8)
    assert (len(prefills), len(extensions)) == (1, 0)


def test_the_expert_runs_over_the_actions_alone_in_every_step():
    model, widths = make_model(), []
    model.expert.register_forward_hook(lambda _, args, __: widths.append(args[0].shape[1]))
    model.predict_action(make_images(), "lift", make_state(), inference_steps=3)
    assert widths == [4, 4, 4, 4]  # Four state tokens once, then four actions three times.


def test_training_never_integrates():
    model, calls = make_model().train(), []
    model.action_out.register_forward_hook(lambda *_: calls.append(1))
    model(make_images(), "lift", make_state(), torch.rand(3, 4, 3))
    assert len(calls) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_cached_prefix_gives_what_the_images_give(mode):
    model, images, state = make_model(state_mode=mode), make_images(), make_state()
    texts, order = ["red", "green", "blue"], torch.tensor([2, 0])
    cached = model.encode_prefix(images, texts, state).rows(order)
    direct = model.predict_action(
        images[order], [texts[row] for row in order], state[order], generator=generator()
    )
    from_cache = model.predict_action(
        None, None, state[order], prefix=cached, generator=generator()
    )
    torch.testing.assert_close(from_cache, direct)


def test_the_cached_context_equals_one_pass_with_the_block_mask():
    model, x, times = make_model(), torch.randn(3, 4, 3), torch.rand(3)
    context = Pi0Context.from_outputs(model(make_images(), "lift", make_state()))
    seen = []
    hook = model.expert.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    cached = model.velocity(context, x, times)
    hook.remove()

    prefix = model.encode_prefix(make_images(), "lift", make_state())
    tokens = torch.cat([model.state_tokenizer(make_state()).tokens, seen[0]], dim=1)
    blocks = torch.tensor([0] * prefix.length + [1] * 4 + [2] * 4)
    valid = torch.cat([prefix.mask, torch.ones(3, 8, dtype=torch.bool)], dim=1)
    mask = blockwise_mask(blocks[prefix.length :], blocks, valid)
    hidden, _ = model.expert(tokens, prefix.next_positions(8), mask, prefix.key_values)
    torch.testing.assert_close(model.action_out(hidden[:, 4:]), cached)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_before_the_actions_depends_on_them(mode):
    model = make_model(state_mode=mode)
    outputs = [
        model(make_images(), "lift", make_state(), actions, generator=generator())["features"]
        for actions in (torch.zeros(3, 4, 3), torch.ones(3, 4, 3))
    ]
    assert torch.equal(*outputs)


def test_every_action_sees_every_other_and_the_state():
    model = make_model()
    outputs = model(make_images(), "lift", make_state(), inference_steps=1)
    outputs["context_values"].requires_grad_()
    x = torch.randn(3, 4, 3, requires_grad=True)
    context = Pi0Context.from_outputs(outputs)
    for step in range(4):
        velocity = model.velocity(context, x, torch.rand(3))[:, step].sum()
        to_x, to_values = torch.autograd.grad(velocity, (x, outputs["context_values"]))
        assert (to_x.abs().sum(-1) > 0).all()
        seen = to_values.abs().sum(dim=(0, 2, 4)) > 0  # [B, L], of layers, heads and widths
        assert torch.equal(seen, context.mask.to(seen.dtype) > 0)
        assert context.mask[:, -4:].all()  # the state tokens


def test_padded_actions_are_not_seen():
    model, x = make_model(), torch.randn(3, 4, 3)
    context = Pi0Context.from_outputs(model(make_images(), "lift", make_state()))
    valid = torch.tensor([[True, True, False, False]]).repeat(3, 1)
    changed = x.clone()
    changed[:, 2:] += 3.0
    before = model.velocity(context, x, torch.full((3,), 0.5), valid)
    after = model.velocity(context, changed, torch.full((3,), 0.5), valid)
    assert torch.equal(before[:, :2], after[:, :2])


def test_loss_is_the_sum_of_flow_and_weighted_vq_loss():
    model = make_model(vq_weight=0.3)
    losses = model(make_images(), "lift", make_state(), torch.rand(3, 4, 3))
    torch.testing.assert_close(losses["loss"], losses["flow_loss"] + 0.3 * losses["vq_loss"])
    parts = ("reconstruction_loss", "codebook_loss", "commitment_loss")
    torch.testing.assert_close(losses["vq_loss"], sum(losses[name] for name in parts))
    assert 1.0 <= losses["codebook_perplexity"] <= 12.0


def test_the_use_of_the_codebook_is_reported_while_training():
    model = make_model().train()
    losses = model(make_images(), "lift", make_state(), torch.rand(3, 4, 3))
    chosen = model.state_tokenizer.steps_unchosen == 0
    assert 1 <= chosen.sum() <= 12
    assert losses["codebook_used"] == chosen.float().mean()
    assert losses["codebook_revived"] == 0


def test_outputs_without_actions_are_enough_for_the_loss():
    model, actions = make_model(), torch.rand(3, 4, 3)
    outputs = model(make_images(), "lift", make_state())
    direct = model(make_images(), "lift", make_state(), actions, generator=generator())
    later = model.compute_loss(outputs, actions, generator=generator())
    torch.testing.assert_close(later["loss"], direct["loss"])


@pytest.mark.parametrize("mode", MODES)
def test_dropped_state_is_the_missing_state(mode):
    model = make_model(state_dropout=1.0, state_mode=mode).train()
    hidden = model(make_images(), "lift", make_state(), torch.rand(3, 4, 3))["features"]
    missing = model(make_images(), "lift", None, torch.rand(3, 4, 3))["features"]
    torch.testing.assert_close(hidden, missing)


def test_state_is_never_dropped_in_eval_mode():
    always, never = make_model(state_dropout=1.0), make_model()
    features = [
        model(make_images(), "lift", make_state(), torch.rand(3, 4, 3))["features"]
        for model in (always, never)
    ]
    assert torch.equal(*features)


def test_a_frozen_vlm_is_in_the_configuration():
    model = make_model(fine_tune_vlm=False)
    assert model.get_config()["fine_tune_vlm"] is False
    model.unfreeze_backbone()
    assert model.get_config()["fine_tune_vlm"] is True


def test_the_reference_preset_is_the_published_model():
    config = Pi0VLA.from_preset("reference", vlm=make_vlm(), mlp_ratio=1.0).get_config()
    settings = ("hidden_dim", "flow_steps", "state_mode", "chunk_size")
    assert [config[key] for key in settings] == [1024, 10, "continuous", 50]


def test_the_pi05_preset_has_the_state_in_the_prompt_and_time_in_every_layer():
    model = Pi0VLA.from_preset("pi05", vlm=make_vlm(), mlp_ratio=1.0)
    config = model.get_config()
    settings = ("hidden_dim", "flow_steps", "state_mode", "time_conditioning", "chunk_size")
    assert [config[key] for key in settings] == [1024, 10, "text_bins", "modulation", 50]


def test_time_modulates_every_layer():
    model = make_model(state_mode="text_bins", time_conditioning="modulation").train()
    with torch.no_grad():  # The gates start closed.
        for parameter in model.expert.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model(make_images(), "lift", make_state(), torch.rand(3, 4, 3))["loss"].backward()
    for layer in model.expert.layers:
        for norm in (layer.attention_norm, layer.mlp_norm):
            assert norm.modulation.weight.grad.abs().sum() > 0


def test_actions_are_clipped_on_request():
    actions = make_model(clip_sample=0.1).predict_action(make_images(), "lift", make_state())
    assert actions.abs().max() <= 0.1


def test_steps_of_the_call_go_before_those_of_the_constructor():
    noise = torch.randn(3, 4, 3)
    given = make_model().predict_action(
        make_images(), "lift", make_state(), noise=noise, inference_steps=2
    )
    built = make_model(flow_steps=2).predict_action(
        make_images(), "lift", make_state(), noise=noise
    )
    assert torch.equal(given, built)


@pytest.mark.parametrize("both", [True, False])
def test_exactly_one_of_images_and_prefix_is_asked_for(both):
    model = make_model()
    images = make_images() if both else None
    prefix = model.encode_prefix(make_images(), "lift") if both else None
    with pytest.raises(ConfigError, match="either images or a prefix"):
        model.predict_action(images, "lift", prefix=prefix)


def test_noise_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"noise must be \[3, 4, 3\], got \[3, 12\]"):
        make_model().predict_action(make_images(), "lift", noise=torch.randn(3, 12))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"state_mode": "tokens"}, "must be one of 'vq', 'continuous', 'text_bins', got 'tokens'"),
        ({"hidden_dim": 33}, "even, got 33"),
        ({"time_conditioning": "film"}, "must be one of 'token', 'modulation', got 'film'"),
        ({"time_conditioning": "modulation"}, "needs state_mode 'text_bins', got 'vq'"),
        ({"flow_steps": 0}, "at least 1, got 0"),
        ({"state_dropout": -0.1}, "state_dropout must be from 0 to 1, got -0.1"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        make_model(**setting)
