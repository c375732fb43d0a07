# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError, UnknownNameError
from vla_core.models.encoders import PatchVisionEncoder
from vla_core.models.frameworks import OctoVLA
from vla_core.models.layers.block_causal import TokenKind

BATCH, CAMERAS, HISTORY = 2, 2, 3


def make_model(**overrides):
    torch.manual_seed(0)
    settings = {
        "vision_encoder": PatchVisionEncoder(output_dim=16, hidden_dims=(8, 8, 8, 16)),
        "action_dim": 3,
        "state_dim": 5,
        "hidden_dim": 32,
        "num_tasks": 4,
        "history_length": HISTORY,
        "chunk_size": 4,
        "num_layers": 2,
        "num_heads": 2,
        "head_dim": 16,
        **overrides,
    }
    model = OctoVLA(**settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def rand(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(**overrides):
    given = {
        "images": rand(BATCH, CAMERAS, 3, 32, 32),
        "text": "lift",
        "proprioception": rand(BATCH, 5),
        **overrides,
    }
    return {key: value for key, value in given.items() if value is not None}


def frames(steps, seed=2):
    return rand(BATCH, steps, CAMERAS, 3, 32, 32, seed=seed)


def features(model, **overrides):
    return model(**inputs(**overrides))["features"]


def test_the_documented_example_runs():
    model = OctoVLA(
        vision_encoder=PatchVisionEncoder(output_dim=16, hidden_dims=(8, 8, 8, 16)),
        action_dim=7,
        state_dim=14,
        hidden_dim=512,
        num_tasks=100,
        history_length=5,
    )
    outputs = model(
        images=rand(2, 3, 32, 32),
        proprioception=rand(2, 14),
        task_id=torch.tensor([3, 99]),
        history_images=rand(2, 5, 3, 32, 32),
        actions=rand(2, 7),
    )
    outputs["loss"].backward()
    assert outputs["loss"].isfinite()


@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
def test_mlp_minimises_what_loss_says(loss):
    model = make_model(loss=loss)
    outputs = model(**inputs(actions=rand(BATCH, 4, 3)))
    assert torch.equal(outputs["loss"], outputs[f"{loss}_loss"])


def test_reference_preset_has_the_published_sizes():
    model = OctoVLA.from_preset("reference")
    config = model.get_config()
    assert (config["chunk_size"], config["history_length"], config["diffusion_steps"]) == (
        4,
        1,
        20,
    )
    # 27 M in the published model, which has another image stem and no dictionary.
    assert 22e6 < model.get_num_parameters() < 30e6
    assert model(rand(1, 3, 64, 64), "lift", actions=rand(1, 4, 7))["loss"].isfinite()


def final_tokens(model, given, disturbed=None):
    """Return the transformer's last tokens, with the groups that they belong to.

    `disturbed` is the index of a group of tokens, the first of which is changed at the input.
    """
    found = {}
    transform = model._transform

    def watched(sequence):
        if disturbed is not None:
            tokens = sequence.tokens[disturbed] = sequence.tokens[disturbed].clone()
            tokens[:, 0] += torch.randn_like(tokens[:, 0])
        found["groups"] = [group for group in sequence.groups for _ in range(group.count)]
        found["source"] = sum(group.count for group in sequence.groups[: disturbed or 0])
        found["tokens"] = transform(sequence)
        return found["tokens"]

    model._transform = watched
    with torch.no_grad():
        model(**given)
    model._transform = transform
    return found


# Task id, words and goal; image and state of three steps; readouts.
@pytest.mark.parametrize("disturbed", range(10))
def test_a_changed_token_is_felt_by_exactly_those_that_may_see_it(disturbed):
    model = make_model(num_readouts=2)
    given = inputs(
        history_images=frames(2),
        goal_images=rand(BATCH, CAMERAS, 3, 32, 32, seed=3),
        history_proprioception=rand(BATCH, 2, 5),
    )
    before, after = final_tokens(model, given), final_tokens(model, given, disturbed)
    groups, source = after["groups"], after["source"]
    felt = (before["tokens"] != after["tokens"]).any(dim=-1).all(dim=0)
    kind, step = groups[source].kind, groups[source].step
    for index, reader in enumerate(groups):
        if kind == TokenKind.TASK:
            expected = True
        elif kind == TokenKind.OBSERVATION:
            expected = reader.kind != TokenKind.TASK and reader.step >= step
        else:
            expected = index == source
        assert felt[index] == expected, (index, reader)


def test_padded_history_is_no_history():
    model = make_model()
    is_pad = torch.ones(BATCH, HISTORY, dtype=torch.bool)
    padded = features(model, history_images=frames(HISTORY), history_pad_mask=is_pad)
    torch.testing.assert_close(padded, features(model))


def test_history_padded_at_its_start_is_a_shorter_one():
    model = make_model()
    is_pad = torch.tensor([[True, False, False]]).expand(BATCH, -1)
    history = frames(HISTORY)
    longer = features(model, history_images=history, history_pad_mask=is_pad)
    torch.testing.assert_close(longer, features(model, history_images=history[:, 1:]))


def test_padding_may_differ_between_rows_and_hold_anything():
    model = make_model()
    is_pad = torch.tensor([[True, False, False], [True, True, False]])
    history = frames(HISTORY)
    spoilt = history.masked_fill(is_pad[..., None, None, None, None], float("nan"))
    torch.testing.assert_close(
        features(model, history_images=spoilt, history_pad_mask=is_pad),
        features(model, history_images=history, history_pad_mask=is_pad),
    )


@pytest.mark.parametrize(
    "given",
    [
        {"history_images": frames(1)},
        {"history_images": frames(2)},
        {"goal_images": rand(BATCH, CAMERAS, 3, 32, 32, seed=5)},
        {"task_id": torch.tensor([0, 1])},
        {"text": "push the block"},
    ],
    ids=["one step", "two steps", "goal", "task id", "text"],
)
def test_what_is_given_beside_the_images_matters(given):
    model = make_model()
    assert not torch.allclose(features(model), features(model, **given), atol=1e-4)


def test_states_of_earlier_steps_matter():
    model = make_model()
    history = {"history_images": frames(2)}
    without = features(model, **history)
    known = features(model, **history, history_proprioception=rand(BATCH, 2, 5))
    assert not torch.allclose(without, known, atol=1e-4)


def test_dropped_states_are_missing_ones():
    model = make_model(state_dropout=1.0).train()
    history = {"history_images": frames(2)}
    states = {"proprioception": rand(BATCH, 5), "history_proprioception": rand(BATCH, 2, 5)}
    hidden = model(**inputs(**history, **states))["features"]
    assert torch.equal(hidden, model(**inputs(**history, proprioception=None))["features"])


def test_states_are_dropped_in_training_alone():
    always, never = make_model(state_dropout=1.0), make_model()
    assert torch.equal(features(always), features(never))


def test_order_of_the_history_matters():
    model = make_model()
    history = frames(2)
    forth, back = (features(model, history_images=h) for h in (history, history.flip(1)))
    assert not torch.allclose(forth, back, atol=1e-4)


def test_every_task_has_its_own_embedding_and_minus_one_is_none():
    model = make_model()
    zero, one, none = (features(model, task_id=torch.full((BATCH,), task)) for task in (0, 1, -1))
    assert not torch.allclose(zero, one, atol=1e-4)
    assert torch.equal(none, features(model))


def test_gradients_reach_only_the_tasks_of_the_batch():
    model = make_model()
    model(**inputs(task_id=torch.tensor([0, 2])), actions=rand(BATCH, 4, 3))["loss"].backward()
    reached = model.task_embedding.weight.grad.abs().sum(-1) > 0
    assert reached.tolist() == [True, False, True, False, False]


def test_number_of_cameras_may_differ_from_call_to_call():
    model = make_model()
    for cameras in (1, 3):
        assert features(model, images=rand(BATCH, cameras, 3, 32, 32)).isfinite().all()


SPACES = {
    "arms": {"action_dim": 14, "state_dim": 7, "chunk_size": 2},
    "gripper": {"action_dim": 1},
}


@pytest.mark.parametrize("head", ["mlp", "diffusion"])
def test_each_space_has_its_own_widths(head):
    model = make_model(spaces=SPACES, head=head, diffusion_steps=3)
    state = rand(BATCH, 7)
    arms = model.predict_action(**inputs(proprioception=state), space="arms")
    assert arms.shape == (BATCH, 2, 14)
    assert model.predict_action(**inputs(), space="gripper").shape == (BATCH, 4, 1)
    assert model.predict_action(**inputs()).shape == (BATCH, 4, 3)


def test_training_in_one_space_leaves_the_others_heads_alone():
    model = make_model(spaces=SPACES)
    model(**inputs(), actions=rand(BATCH, 4, 1), space="gripper")["loss"].backward()
    assert model.readouts.grad.abs().sum() > 0
    assert model.spaces["gripper"].head.input[1].weight.grad.abs().sum() > 0
    for other in ("default", "arms"):
        assert all(p.grad is None for p in model.spaces[other].parameters())


def test_spaces_survive_saving(tmp_path):
    model = make_model(spaces=SPACES)
    model.save_pretrained(tmp_path)
    expected = model.predict_action(**inputs(), space="gripper")
    loaded = OctoVLA.from_pretrained(tmp_path)
    assert torch.equal(loaded.predict_action(**inputs(), space="gripper"), expected)


def test_model_without_state_ignores_none_and_has_no_state_token():
    model = make_model(state_dim=0)
    assert features(model, proprioception=None).isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history_images": frames(4)}, "at most 3 steps"),
        ({"history_images": rand(BATCH, 2, 3, 32, 32)}, "history_images must be"),
        ({"history_pad_mask": torch.zeros(BATCH, 1)}, "without history_images"),
        (
            {"history_images": frames(1), "history_pad_mask": torch.zeros(BATCH, 1)},
            r"history_pad_mask must be bool \[2, 1\].*got torch.float32",
        ),
        (
            {"history_images": frames(1), "history_proprioception": rand(BATCH, 2, 5)},
            r"history_proprioception must be \[2, 1, 5\]",
        ),
        ({"goal_images": rand(BATCH, 1, 3, 32, 32)}, "goal_images must be shaped as images"),
        ({"task_id": torch.tensor([0, 4])}, r"task_id must be from 0 to 3.*got \[0, 4\]"),
        ({"task_id": torch.tensor([0])}, r"task_id must be int64 \[2\]"),
    ],
)
def test_wrong_inputs_are_refused_with_what_is_expected(change, message):
    with pytest.raises(ShapeError, match=message):
        features(make_model(), **change)


def test_unknown_space_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="'leg' is unknown; available: 'default', 'arms'"):
        make_model(spaces=SPACES)(**inputs(), space="leg")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "gmm"}, "head must be one of 'mlp', 'diffusion', got 'gmm'"),
        ({"spaces": {"arm": {"state_dim": 3}}}, "space 'arm' must .* give action_dim"),
        ({"spaces": {"arm": {"action_dim": 3, "width": 1}}}, "space 'arm' must"),
        ({"history_length": -1}, "history_length must not be negative"),
        ({"state_dropout": 2}, "state_dropout must be from 0 to 1, got 2"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_model(**settings)
