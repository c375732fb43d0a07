# SPDX-License-Identifier: MIT
import json

import pytest
import torch

from vla_core.errors import CheckpointError, ConfigError, ShapeError
from vla_core.models.frameworks.helix import TIERS, HelixVLA
from vla_core.models.frameworks.helix_tiers import (
    HelixMotorControl,
    HelixPlanner,
    HelixPolicy,
    shift_sequence,
)
from vla_core.models.vlm import TinyVLM

BATCH, HORIZON, ACTION_DIM, STATE_DIM = 3, 4, 3, 5


def make_model(**overrides):
    torch.manual_seed(0)
    settings = {
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "plan_dim": 16,
        "plan_horizon": HORIZON,
        "hidden_dim": 16,
        "depth": 1,
        "motor_dim": 16,
        "plan_max_age": 3,
        **overrides,
    }
    model = HelixVLA(TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2), **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def make_images(seed=0, ages=None):
    shape = (BATCH, 1, 3, 32, 32) if ages is None else (BATCH, ages, 1, 3, 32, 32)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def make_actions():
    return torch.rand(BATCH, HORIZON, ACTION_DIM, generator=torch.Generator().manual_seed(1))


STATE = torch.linspace(-1.0, 1.0, BATCH * STATE_DIM).view(BATCH, STATE_DIM)


def test_the_documented_calls_run():
    model = make_model(plan_horizon=10, plan_dim=256)
    images, text = make_images()[:, 0], ["red", "green", "blue"]
    outputs = model(images, text, STATE, torch.rand(BATCH, 10, ACTION_DIM))
    outputs["loss"].backward()
    assert outputs["plan"].shape == (BATCH, 256)
    assert outputs["action_sequence"].shape == (BATCH, 10, ACTION_DIM)
    assert outputs["actions"].shape == (BATCH, ACTION_DIM)
    action, sequence = model.predict_action(images, text, STATE, return_sequence=True)
    assert torch.equal(action, model(images, text, STATE)["actions"])
    assert sequence.shape == (BATCH, 10, ACTION_DIM)


def test_the_tiers_run_apart_do_what_the_policy_does():
    model, images = make_model(), make_images()
    with torch.no_grad():
        plan = model.planner(images, "red")
        sequence = model.policy(plan, images, STATE)
        action = model.motor_control(sequence, STATE)
    outputs = model(images, "red", STATE)
    assert torch.equal(plan, outputs["plan"])
    assert torch.equal(sequence, outputs["action_sequence"])
    assert torch.equal(action, outputs["actions"])


def test_a_plan_made_before_saves_the_planner():
    model, images = make_model(), make_images()
    plan = model.high_level_planning(images, "red")
    expected = model.predict_action(images, "red", STATE)
    model.planner.register_forward_hook(lambda *_: pytest.fail("the planner ran"))
    assert torch.equal(model.predict_action(images, None, STATE, plan=plan), expected)


def test_tokens_of_the_vlm_made_before_save_its_work():
    model = make_model()
    tokens = model.encode_vlm(make_images(), "lift")
    expected = model(make_images(1), "lift", STATE, plan_images=make_images(), plan_age=2)
    given = model(make_images(1), None, STATE, vlm_features=tokens, plan_age=2)
    for name, value in expected.items():
        torch.testing.assert_close(given[name], value)
    with pytest.raises(ConfigError, match="one of plan, plan_images and vlm_features"):
        model(make_images(1), None, STATE, vlm_features=tokens, plan=expected["plan"])


def test_planning_is_a_function_of_images_and_text_alone():
    model = make_model()
    plan = model.high_level_planning(make_images(), "red")
    assert plan.shape == (BATCH, 16)
    assert not torch.allclose(plan, model.high_level_planning(make_images(), "blue"), atol=1e-4)
    assert not torch.allclose(plan, model.high_level_planning(make_images(1), "red"), atol=1e-4)


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_survives_saving_on_its_own(tier, tmp_path):
    saved = getattr(make_model(), tier)
    saved.save_pretrained(tmp_path)
    loaded = type(saved).from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.get_config() == saved.get_config()
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_is_loaded_out_of_a_whole_policy(tier, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    loaded = HelixVLA.load_tier(tmp_path, tier)
    assert type(loaded) is type(getattr(model, tier))
    expected = getattr(model, tier).state_dict()
    assert set(loaded.state_dict()) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_the_policy_may_have_other_eyes_and_keeps_them(tmp_path):
    eyes = {"name": "patch_merging", "image_size": 32, "output_dim": 8}
    model = make_model(vision_encoder=eyes)
    model.save_pretrained(tmp_path)
    sequence = model.policy(torch.zeros(BATCH, 16), make_images(), STATE)
    for loaded in (
        HelixVLA.from_pretrained(tmp_path).policy,
        HelixVLA.load_tier(tmp_path, "policy"),
    ):
        assert loaded.vision.get_config() == eyes
        assert torch.equal(loaded(torch.zeros(BATCH, 16), make_images(), STATE), sequence)


def test_a_policy_saved_before_there_was_a_choice_of_eyes_still_loads(tmp_path):
    make_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["vision_encoder"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert HelixVLA.load_tier(tmp_path, "policy").vision.name == "patch"
    assert HelixVLA.from_pretrained(tmp_path).policy.vision.name == "patch"


def test_a_policy_tier_holds_no_vlm(tmp_path):
    model = make_model()
    model.policy.save_pretrained(tmp_path)
    whole = sum(p.numel() for p in model.parameters())
    apart = [sum(p.numel() for p in getattr(model, tier).parameters()) for tier in TIERS]
    assert sum(apart) == whole - sum(p.numel() for p in model.plan_decoder.parameters())
    names = HelixPolicy.from_pretrained(tmp_path).state_dict()
    assert not any("vlm" in name for name in names)


def test_the_files_of_another_tier_are_refused(tmp_path):
    make_model().policy.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="is of 'HelixPolicy', not of HelixPlanner"):
        HelixPlanner.from_pretrained(tmp_path)


def test_a_whole_policy_in_the_place_of_a_tier_is_refused(tmp_path):
    make_model().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"is of 'helix'.*load_tier"):
        HelixPolicy.from_pretrained(tmp_path)


def test_a_tier_with_a_misshapen_weight_is_refused(tmp_path):
    make_model().policy.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "plan_dim": 24}))
    with pytest.raises(CheckpointError, match=r"plan_projection\.weight: \[16, 16\] in the file"):
        HelixPolicy.from_pretrained(tmp_path)


def test_an_unknown_tier_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="tier must be one of 'planner', 'policy', 'motor_c"):
        HelixVLA.load_tier(tmp_path, "spine")


def test_a_frozen_vlm_learns_nothing_while_the_planner_does():
    model = make_model().train()
    model(make_images(), "red", STATE, make_actions())["loss"].backward()
    assert [n for n, p in model.vlm.named_parameters() if p.grad is not None] == []
    assert model.planner.pooling.projection.weight.grad.abs().sum() > 0
    assert not model.vlm.training


def test_the_plan_of_each_row_comes_from_the_age_that_was_drawn():
    model, history = make_model(), make_images(ages=4)
    generator = torch.Generator().manual_seed(3)
    outputs = model(make_images(), "red", STATE, plan_images=history, generator=generator)
    ages = outputs["plan_age"]
    assert len(set(ages.tolist())) > 1
    expected = model.high_level_planning(history[torch.arange(BATCH), ages], "red")
    torch.testing.assert_close(outputs["plan"], expected)


def test_every_age_of_the_history_is_drawn():
    model, history = make_model(), make_images(ages=3)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat(
        [
            model(make_images(), "red", STATE, plan_images=history, generator=generator)[
                "plan_age"
            ]
            for _ in range(12)
        ]
    )
    assert set(drawn.tolist()) == {0, 1, 2}


def test_ages_can_be_chosen():
    model, history = make_model(), make_images(ages=4)
    age = torch.tensor([2, 0, 3])
    images = make_images()
    from_history = model(images, "red", STATE, plan_images=history, plan_age=age)
    of_one_age = model(
        images, "red", STATE, plan_images=history[torch.arange(BATCH), age], plan_age=age
    )
    assert torch.equal(from_history["plan_age"], age)
    torch.testing.assert_close(from_history["actions"], of_one_age["actions"])


def test_the_policy_sees_now_while_the_plan_is_old():
    model, plan_images = make_model(), make_images(1)
    old = model(make_images(2), "red", STATE, plan_images=plan_images, plan_age=1)
    new = model(make_images(3), "red", STATE, plan_images=plan_images, plan_age=1)
    assert torch.equal(old["plan"], new["plan"])
    assert not torch.allclose(old["action_sequence"], new["action_sequence"], atol=1e-5)


def test_the_policy_is_told_the_age():
    model, images = make_model(), make_images()
    plan = model.high_level_planning(images, "red")
    young, old = (
        model.predict_action(images, None, STATE, plan=plan, plan_age=age) for age in (0, 3)
    )
    assert not torch.allclose(young, old, atol=1e-5)


@pytest.mark.parametrize("age", [4, -1])
def test_a_plan_of_an_age_that_training_never_saw_is_refused(age):
    model, images = make_model(), make_images()
    plan = model.high_level_planning(images, "red")
    with pytest.raises(ConfigError, match=r"plan_age must be 0 to 3 \(plan_max_age\)"):
        model.predict_action(images, None, STATE, plan=plan, plan_age=age)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"plan_age": 1}, ConfigError, "age of plan or plan_images"),
        ({"plan_images": make_images()}, ConfigError, "plan_images of one age need plan_age"),
        ({"plan_images": make_images(ages=5)}, ShapeError, r"at most 4 ages .*got 5"),
        (
            {"plan_images": make_images(ages=2), "plan_age": 2},
            ConfigError,
            r"less than the 2 ages .*got \[2, 2, 2\]",
        ),
        (
            {"plan": torch.zeros(BATCH, 16), "plan_images": make_images()},
            ConfigError,
            "either plan or plan_images",
        ),
        ({"plan": torch.zeros(BATCH, 8)}, ShapeError, r"plan must be \[3, 16\].*got \[3, 8\]"),
        (
            {"plan": torch.zeros(BATCH, 16), "plan_age": torch.zeros(BATCH)},
            ShapeError,
            "plan_age must be a whole number or int64",
        ),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused(inputs, error, message):
    with pytest.raises(error, match=message):
        make_model()(make_images(), "red", STATE, **inputs)


def test_smoothing_loss_is_zero_for_straight_sequences_alone():
    model = make_model()
    steps = torch.arange(float(HORIZON)).view(1, HORIZON, 1).expand(BATCH, HORIZON, ACTION_DIM)
    outputs = {"plan": torch.zeros(BATCH, 16), "actions": steps[:, 0], "action_sequence": steps}
    straight = model.compute_loss(outputs, make_actions())
    assert straight["smoothing_loss"] == 0.0
    bent = model.compute_loss({**outputs, "action_sequence": steps**2}, make_actions())
    assert bent["smoothing_loss"] == 4.0


def test_perfect_tiers_have_no_loss_but_that_of_the_plan():
    model, actions = make_model(smoothing_weight=0.0), make_actions()
    outputs = {
        "plan": torch.zeros(BATCH, 16),
        "actions": actions[:, 0],
        "action_sequence": actions,
    }
    losses = model.compute_loss(outputs, actions)
    assert losses["action_loss"] == 0.0
    assert losses["sequence_loss"] == 0.0
    torch.testing.assert_close(losses["loss"], 0.1 * losses["plan_loss"])


def test_without_weight_there_is_no_plan_loss():
    model = make_model(plan_weight=0.0).train()
    outputs = model(make_images(), "red", STATE, make_actions())
    assert "plan_loss" not in outputs
    assert model.plan_decoder is None


def test_single_actions_are_the_first_of_the_sequence():
    model, actions = make_model(), make_actions()
    is_pad = torch.zeros(BATCH, HORIZON, dtype=torch.bool)
    is_pad[:, 1:] = True
    of_chunk = model(make_images(), "red", STATE, actions, action_is_pad=is_pad)["loss"]
    of_single = model(make_images(), "red", STATE, actions[:, 0])["loss"]
    assert torch.equal(of_chunk, of_single)


def test_untrained_motor_control_plays_the_sequence():
    motor = HelixMotorControl(ACTION_DIM, STATE_DIM, HORIZON)
    sequence = make_actions()
    assert torch.equal(motor(sequence, STATE), sequence[:, 0])
    assert torch.equal(motor(sequence, STATE, elapsed=2.0), sequence[:, 2])
    halfway = (sequence[:, 0] + sequence[:, 1]) / 2.0
    torch.testing.assert_close(motor(sequence, STATE, elapsed=0.5), halfway)


def test_motor_control_corrects_by_the_newest_state():
    motor, sequence = make_model().motor_control, make_actions()
    assert not torch.allclose(motor(sequence, STATE), motor(sequence, -STATE), atol=1e-5)


def test_a_dropped_state_is_a_missing_one_in_training_alone():
    always, never = make_model(state_dropout=1.0).policy, make_model().policy
    plan, images = torch.ones(BATCH, 16), make_images()
    assert torch.equal(always(plan, images, STATE), never(plan, images, STATE))
    assert torch.equal(always.train()(plan, images, STATE), always(plan, images, None))


def test_motor_control_gets_noise_on_its_state_in_training_alone():
    noisy, exact = make_model(motor_state_noise=0.5).motor_control, make_model().motor_control
    sequence = make_actions()
    assert torch.equal(noisy(sequence, STATE), exact(sequence, STATE))
    noisy.train()
    assert not torch.equal(noisy(sequence, STATE), exact(sequence, STATE))
    assert torch.equal(noisy(sequence, None), exact(sequence, None))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"state_dropout": 2}, "state_dropout must be from 0 to 1, got 2"),
        ({"motor_state_noise": -1}, "motor_state_noise must not be negative, got -1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_model(**settings)


def test_a_shifted_sequence_holds_its_last_action():
    sequence = make_actions()
    assert torch.equal(shift_sequence(sequence, 0.0), sequence)
    shifted = shift_sequence(sequence, 1.0)
    assert torch.equal(shifted[:, :-1], sequence[:, 1:])
    assert torch.equal(shifted[:, -1], sequence[:, -1])
    assert torch.equal(shift_sequence(sequence, 9.5), sequence[:, -1:].expand_as(sequence))


def test_the_future_cannot_be_shifted_away():
    with pytest.raises(ConfigError, match=r"elapsed must be at least 0 steps, got -0\.1"):
        shift_sequence(make_actions(), -0.1)


def test_reference_preset_has_the_published_sizes():
    with torch.device("meta"):
        model = HelixVLA.from_preset("reference", vlm=TinyVLM(32, 16, 1, 2), action_dim=35)
    policy = sum(p.numel() for p in model.policy.parameters())
    motor = sum(p.numel() for p in model.motor_control.parameters())
    assert policy == pytest.approx(80e6, rel=0.1)
    assert motor == pytest.approx(10e6, rel=0.1)
    assert not model.vlm.is_frozen
