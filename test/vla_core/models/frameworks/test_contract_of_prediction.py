# SPDX-License-Identifier: MIT
"""What every framework promises of what it predicts."""

import pytest
import torch

STATE_DIM, ACTION_DIM, CHUNK_SIZE, CAMERAS, BATCH = 5, 3, 4, 2, 3


def one_step_from_noise(rows):
    return {"inference_steps": 1, "noise": torch.randn(BATCH, CHUNK_SIZE, ACTION_DIM)[rows]}


# What makes a framework predict without drawing numbers for all rows together.
DRAWLESS = {
    "octo diffusion": one_step_from_noise,
    "octo reference": one_step_from_noise,
    "gr00t": one_step_from_noise,
    "custom": one_step_from_noise,
    "pi0": one_step_from_noise,
}

# Accept text and do not read it.
WITHOUT_LANGUAGE = {"act"}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


CHANGES = {
    "another text": {"text": "pick up the blue block"},
    "another state": {"proprioception": torch.zeros(BATCH, STATE_DIM)},
    "a black image": {"images": torch.zeros(BATCH, CAMERAS, 3, 32, 32)},
    "another image": {"images": torch.rand(BATCH, CAMERAS, 3, 32, 32, generator=seeded(2))},
}


@pytest.fixture
def decision_of(observation):
    """Return the actions, or what they are chosen by where a small change chooses the same."""

    def decide(model, **inputs):
        outputs = model(**observation(**inputs), generator=seeded())
        return outputs["logits"] if "logits" in outputs else outputs["actions"]

    return decide


def features_of(outputs):
    """Return what the actions are made of, or where there are no such features, the actions."""
    return outputs["features"] if "features" in outputs else outputs["action_sequence"]


def test_actions_have_a_chunk_axis_only_if_there_are_several(build, make_batch, observation):
    several = build().predict_chunk(**observation())
    assert several.shape == (BATCH, CHUNK_SIZE, ACTION_DIM)
    single = build(chunk_size=1)
    assert single.predict_chunk(**observation()).shape == (BATCH, 1, ACTION_DIM)
    assert (build().chunk_length, single.chunk_length) == (CHUNK_SIZE, 1)
    assert single.predict_action(**observation()).shape == (BATCH, ACTION_DIM)
    assert single(**make_batch(actions=torch.zeros(BATCH, ACTION_DIM)))["loss"].isfinite()


def test_forward_without_actions_predicts_without_gradient(build, observation):
    model = build()
    actions = model(**observation(), generator=seeded())["actions"]
    assert not actions.requires_grad
    assert torch.equal(actions, model.predict_action(**observation(), generator=seeded()))


def test_fixed_generator_reproduces_prediction_and_loss(build, make_batch, observation):
    model = build()
    for compute in (
        lambda seed: model.predict_action(**observation(), generator=seeded(seed)),
        lambda seed: model(**make_batch(), generator=seeded(seed))["loss"],
    ):
        first = compute(1)
        torch.manual_seed(7)
        assert torch.equal(first, compute(1))


def test_a_row_does_not_depend_on_the_other_rows(build, builder_name, observation):
    model, batch = build(), observation()
    drawless = DRAWLESS.get(builder_name, DRAWLESS.get(model.framework, lambda rows: {}))
    torch.manual_seed(0)
    together = model.predict_action(**batch, **drawless(slice(None)))
    torch.manual_seed(0)
    row = {key: value[1:2] for key, value in batch.items()}
    alone = model.predict_action(**row, **drawless(slice(1, 2)))
    torch.testing.assert_close(together[1:2], alone)


def test_one_string_stands_for_every_row(build, make_batch):
    model = build()
    one = model(**make_batch(text="lift the block"), generator=seeded())["loss"]
    listed = model(**make_batch(text=["lift the block"] * BATCH), generator=seeded())["loss"]
    assert torch.equal(one, listed)


def test_no_text_is_the_empty_instruction(build, observation):
    model = build()
    none = model.predict_action(**observation(text=None), generator=seeded())
    assert torch.equal(none, model.predict_action(**observation(text=""), generator=seeded()))


@pytest.mark.parametrize("change", CHANGES)
def test_each_input_changes_the_actions(build, change, decision_of):
    model = build()
    before, after = decision_of(model), decision_of(model, **CHANGES[change])
    ignored = change == "another text" and model.framework in WITHOUT_LANGUAGE
    assert torch.allclose(before, after, atol=1e-4) == ignored


def test_the_order_of_cameras_matters(build, make_batch):
    model = build()
    batch = make_batch()
    swapped = {**batch, "images": batch["images"].flip(1)}
    before, after = features_of(model(**batch)), features_of(model(**swapped))
    assert not torch.allclose(before, after, atol=1e-4)


def test_images_without_a_camera_axis_are_those_of_one_camera(build, observation):
    model, batch = build(num_cameras=1), observation(cameras=1)
    flat = {**batch, "images": batch["images"][:, 0]}
    expected = model.predict_action(**batch, generator=seeded())
    assert torch.equal(model.predict_action(**flat, generator=seeded()), expected)


def test_a_model_without_state_predicts(build, observation):
    assert build().predict_action(**observation(proprioception=None)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_and_states_of_another_precision_are_taken(build, dtype, observation):
    model, batch = build(), observation()
    other = {key: batch[key].to(dtype) for key in ("images", "proprioception")}
    rounded = {key: value.float() for key, value in other.items()}
    expected = model.predict_chunk(**{**batch, **rounded}, generator=seeded())
    taken = model.predict_chunk(**{**batch, **other}, generator=seeded())
    torch.testing.assert_close(taken, expected, atol=1e-3, rtol=1e-3)
