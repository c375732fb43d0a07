# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads import quantile_bounds
from vla_core.models.frameworks.rt2 import RT2VLA
from vla_core.models.vlm import TinyVLM

BINS = 8


def make_vlm(num_action_tokens=BINS):
    return TinyVLM(
        image_size=32,
        hidden_size=16,
        depth=1,
        num_heads=2,
        num_action_tokens=num_action_tokens,
    )


def build(**overrides):
    torch.manual_seed(0)
    settings = {"action_dim": 3, "num_bins": BINS, "chunk_size": 2, "state_dim": 4, **overrides}
    return RT2VLA(make_vlm(), **settings).eval()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_images(batch=2):
    return torch.rand(batch, 2, 3, 32, 32, generator=generator())


def make_actions(batch=2):
    return torch.rand(batch, 2, 3, generator=generator(1)) * 2 - 1


TEXTS = ["pick up the red block", "lift"]
STATE = torch.linspace(-1, 1, 8).view(2, 4)


@pytest.mark.parametrize("state_mode", ["continuous", "bins"])
@pytest.mark.parametrize("state", [STATE, None])
def test_one_parallel_pass_scores_as_decoding_step_by_step_does(state, state_mode):
    model = build(state_mode=state_mode)
    decoded = model(make_images(), TEXTS, state, temperature=1.0, generator=generator())
    taught = model(make_images(), TEXTS, state, actions=decoded["actions"])
    torch.testing.assert_close(taught["logits"], decoded["logits"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(taught["features"], decoded["features"], atol=1e-5, rtol=1e-4)


def test_scores_of_a_token_depend_on_those_before_and_on_none_after():
    model, actions = build(), make_actions()
    actions[0, 1, 0] = -0.9
    changed = actions.clone()
    changed[0, 1, 0] = 0.9  # The fourth of six tokens.
    one, two = (
        model(make_images(), TEXTS, STATE, actions=a)["logits"] for a in (actions, changed)
    )
    torch.testing.assert_close(one[:, :4], two[:, :4])
    assert not torch.allclose(one[0, 4:], two[0, 4:], atol=1e-4)


def test_actions_are_centres_of_bins():
    actions = build().predict_action(make_images(), TEXTS, STATE, generator=generator())
    places = (actions + 1.0) * BINS / 2 - 0.5
    torch.testing.assert_close(places, places.round())


def test_zero_temperature_takes_the_likeliest_bin_every_time():
    model = build()
    outputs = model(make_images(), TEXTS, STATE, temperature=0.0)
    bins = model.action_head.bins.quantize(outputs["actions"]).flatten(1)
    assert torch.equal(bins, outputs["logits"].argmax(-1))


def test_one_candidate_is_greedy_at_any_temperature():
    model = build()
    greedy = model.predict_action(make_images(), TEXTS, STATE, temperature=0.0)
    one = model.predict_action(make_images(), TEXTS, STATE, temperature=5.0, top_k=1)
    assert torch.equal(one, greedy)


def test_constructor_s_temperature_and_top_k_are_the_defaults():
    greedy = build(temperature=0.0)
    expected = greedy.predict_action(make_images(), TEXTS, STATE)
    assert torch.equal(greedy.predict_action(make_images(), TEXTS, STATE), expected)
    narrow = build(temperature=3.0, top_k=1)
    assert torch.equal(narrow.predict_action(make_images(), TEXTS, STATE), expected)


def test_default_temperature_samples():
    model = build()
    samples = [
        model.predict_action(make_images(), TEXTS, STATE, generator=generator(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])


def test_higher_temperature_samples_more_evenly():
    model = build(chunk_size=1, action_dim=1)
    with torch.no_grad():
        model.vlm.action_embedding.weight.mul_(4.0)

    def distinct(temperature):
        drawn = model.predict_action(
            make_images(1).expand(200, -1, -1, -1, -1),
            "lift",
            temperature=temperature,
            generator=generator(),
        )
        return drawn.unique(return_counts=True)[1].max().item()

    assert distinct(0.3) > distinct(1.0) > distinct(10.0)


def test_no_word_can_be_said_where_an_action_token_belongs():
    model = build()
    with torch.no_grad():
        model.vlm.word_embedding.weight.mul_(1e3)  # Words now score far higher.
    assert model(make_images(), TEXTS, STATE)["logits"].shape == (2, 6, BINS)
    assert model.predict_action(make_images(), TEXTS, STATE).abs().max() <= 1.0


def test_loss_is_cross_entropy_of_the_true_bins():
    model, actions = build(), make_actions()
    outputs = model(make_images(), TEXTS, STATE, actions=actions)
    log_probabilities = outputs["logits"].log_softmax(-1)
    bins = model.action_head.bins.quantize(actions).flatten(1).unsqueeze(-1)
    torch.testing.assert_close(outputs["loss"], -log_probabilities.gather(-1, bins).mean())
    torch.testing.assert_close(outputs["loss"], outputs["token_loss"])


def test_clipped_actions_are_counted():
    actions = make_actions()
    actions[1, 0, 2] = 1.5
    assert build()(make_images(), TEXTS, STATE, actions=actions)["clipped_actions"] == 1


def test_loss_of_decoded_outputs_can_be_computed():
    model = build()
    outputs = model(make_images(), TEXTS, STATE, temperature=0.0)
    losses = model.compute_loss(outputs, outputs["actions"])
    assert losses["token_accuracy"] == 1.0


def test_content_of_padded_steps_is_not_shown_to_later_ones():
    model, actions = build(), make_actions()
    is_pad = torch.tensor([[True, False], [False, False]])
    changed = actions.masked_fill(is_pad[..., None], -5.0)
    one, two = (
        model(make_images(), TEXTS, STATE, actions=a, action_is_pad=is_pad)["logits"]
        for a in (actions, changed)
    )
    assert torch.equal(one, two)


def test_decoding_follows_the_bounds_of_each_dimension():
    bounds = quantile_bounds(torch.tensor([[-1.0, 0.0, 5.0], [1.0, 10.0, 6.0]]), 0.0, 1.0)
    model = build(action_bounds=bounds)
    actions = model.predict_action(make_images(), TEXTS, STATE, generator=generator())
    for dimension, (lower, upper) in enumerate(bounds):
        assert (actions[..., dimension] > lower).all()
        assert (actions[..., dimension] < upper).all()
    assert model.get_config()["action_bounds"] == [[-1.0, 1.0], [0.0, 10.0], [5.0, 6.0]]


def test_state_is_not_read_unless_its_width_is_given():
    model = build(state_dim=None, temperature=0.0)
    without = model.predict_action(make_images(), TEXTS)
    assert torch.equal(model.predict_action(make_images(), TEXTS, STATE), without)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"vlm"}


def test_a_state_in_bins_is_read_as_the_words_of_its_bins():
    model = build(state_mode="bins")

    def scores(state):
        return model(make_images(), TEXTS, state, actions=make_actions())["logits"]

    within = STATE.clamp(-0.99, 0.99) + 1e-3  # 8 bins are 0.25 wide; none of these leaves its own.
    assert torch.equal(scores(STATE.clamp(-0.99, 0.99)), scores(within))
    assert not torch.allclose(scores(within), scores(-within), atol=1e-4)
    with pytest.raises(ShapeError, match="proprioception"):
        scores(STATE[:, :3])
    assert RT2VLA.from_config(model.get_config()).state_bins is not None


def test_an_unknown_way_to_read_the_state_is_refused():
    with pytest.raises(ConfigError, match="state_mode must be one of 'continuous', 'bins'"):
        build(state_mode="words")


def test_decoding_runs_the_language_model_over_one_token_at_a_time(monkeypatch):
    model, widths = build(temperature=0.0), []
    extend = model.vlm.extend

    def counted(embeddings, prefix, **settings):
        widths.append(embeddings.shape[1])
        return extend(embeddings, prefix, **settings)

    monkeypatch.setattr(model.vlm, "extend", counted)
    model.predict_action(make_images(), TEXTS, STATE)
    # The state's token, the begin token, and all of the 2 x 3 numbers but the last.
    assert widths == [1, 1, *[1] * 5]


@pytest.mark.parametrize("state", [torch.zeros(3, 4), torch.zeros(4), [0.0, 0.0]])
def test_what_cannot_be_a_state_is_refused_also_where_none_is_read(state):
    with pytest.raises(ShapeError, match=r"proprioception must be a tensor \[2, state_dim\]"):
        build(state_dim=None).predict_action(make_images(), TEXTS, state)


def test_prompt_template_surrounds_the_instruction():
    template = "what action should the robot take to {} ?"
    model = build(prompt_template=template, temperature=0.0)
    plain = build(temperature=0.0)
    filled = [template.replace("{}", text) for text in TEXTS]
    expected = plain(make_images(), filled, STATE)["logits"]
    assert torch.equal(model(make_images(), TEXTS, STATE)["logits"], expected)


def test_template_without_a_place_is_refused():
    with pytest.raises(ConfigError, match=r"must have '\{\}' once.*got 'do it'"):
        build(prompt_template="do it")


def test_vlm_without_enough_action_tokens_is_refused():
    with pytest.raises(ConfigError, match="has 8 action tokens and 256 are needed"):
        RT2VLA(make_vlm(), action_dim=3)


def test_bounds_for_another_number_of_dimensions_are_refused():
    with pytest.raises(ConfigError, match=r"must be 3 pairs .*got 7"):
        build(action_bounds=[(-1, 1)] * 7)


def test_negative_temperature_is_refused():
    with pytest.raises(ConfigError, match="temperature must be at least 0, got -1"):
        build().predict_action(make_images(), TEXTS, temperature=-1.0)


def test_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="temprature"):
        build().predict_action(make_images(), TEXTS, temprature=1.0)


def test_reference_preset_is_greedy_with_256_bins():
    config = RT2VLA.from_preset("reference", vlm=make_vlm(256)).get_config()
    assert (config["num_bins"], config["temperature"], config["action_dim"]) == (256, 0.0, 7)


def test_gradient_checkpointing_keeps_the_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = build().train()
        if checkpointing:
            model.vlm.gradient_checkpointing_enable()
        model(make_images(), TEXTS, STATE, actions=make_actions())["loss"].backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
