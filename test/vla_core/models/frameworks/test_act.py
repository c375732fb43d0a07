# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.encoders import PatchVisionEncoder
from vla_core.models.frameworks import ACTVLA

BATCH, ACTION_DIM, STATE_DIM, CHUNK_SIZE = 3, 2, 5, 4


def make_model(**overrides):
    torch.manual_seed(0)
    settings = {
        "vision_encoder": PatchVisionEncoder(output_dim=16, hidden_dims=(8, 8, 8, 16)),
        "action_dim": ACTION_DIM,
        "state_dim": STATE_DIM,
        "chunk_size": CHUNK_SIZE,
        "latent_dim": 6,
        "hidden_dim": 32,
        "num_heads": 4,
        "feedforward_dim": 48,
        "num_encoder_layers": 2,
        "num_posterior_layers": 1,
        "dropout": 0.0,
        **overrides,
    }
    return ACTVLA(**settings).eval()


def make_inputs(cameras=2):
    draws = torch.Generator().manual_seed(1)
    return {
        "images": torch.rand(BATCH, cameras, 3, 32, 32, generator=draws),
        "proprioception": torch.rand(BATCH, STATE_DIM, generator=draws),
    }


def make_actions():
    return torch.rand(BATCH, CHUNK_SIZE, ACTION_DIM, generator=torch.Generator().manual_seed(2))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_reference_preset_is_the_published_model():
    model = ACTVLA.from_preset("reference")
    config = model.get_config()
    published = {
        "chunk_size": 100,
        "kl_weight": 10.0,
        "latent_dim": 32,
        "hidden_dim": 512,
        "num_heads": 8,
        "feedforward_dim": 3200,
        "num_encoder_layers": 4,
        "num_decoder_layers": 1,
        "num_posterior_layers": 4,
        "dropout": 0.1,
        "pre_norm": False,
        "activation": "relu",
    }
    assert {key: config[key] for key in published} == published
    assert model.get_num_parameters() == pytest.approx(51.6e6, rel=1e-3)


def test_seed_preset_has_the_document_s_values():
    config = ACTVLA.from_preset("seed", vision_encoder="patch").get_config()
    document = {"action_dim": 7, "state_dim": 14, "chunk_size": 10, "latent_dim": 32}
    assert {key: config[key] for key in document} == document
    assert config["kl_weight"] == 0.0001


def test_prediction_draws_nothing():
    model, inputs = make_model(), make_inputs()
    before = torch.get_rng_state()
    first = model.predict_action(**inputs)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, model.predict_action(**inputs))


def test_latent_of_the_prior_is_drawn_on_request():
    model, inputs = make_model(), make_inputs()
    drawn = [
        model.predict_action(**inputs, sample_prior=True, generator=seeded(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])
    assert not torch.allclose(drawn[0], model.predict_action(**inputs))


def test_state_comes_second_and_text_given_there_is_refused():
    model, inputs = make_model(), make_inputs()
    expected = model.predict_action(**inputs)
    assert torch.equal(model.predict_action(inputs["images"], inputs["proprioception"]), expected)
    for text in ("lift", ["lift"] * BATCH):
        with pytest.raises(ShapeError, match=r"got text: .* takes \(images, proprioception, text"):
            model.predict_action(inputs["images"], text)


def test_text_changes_nothing():
    model, inputs = make_model(), make_inputs()
    expected = model.predict_action(**inputs)
    assert torch.equal(model.predict_action(**inputs, text="lift the block"), expected)


def test_loss_is_reconstruction_and_weighted_divergence():
    model = make_model(kl_weight=0.5)
    losses = model(**make_inputs(), actions=make_actions(), generator=seeded())
    assert set(losses) == {"features", "loss", "reconstruction_loss", "kl_loss"}
    total = losses["reconstruction_loss"] + 0.5 * losses["kl_loss"]
    torch.testing.assert_close(losses["loss"], total)


def test_reconstruction_loss_is_divided_by_the_number_of_valid_steps():
    model, inputs, actions = make_model(num_posterior_layers=0), make_inputs(), make_actions()
    is_pad = torch.zeros(BATCH, CHUNK_SIZE, dtype=torch.bool)
    is_pad[0, 1:] = True
    is_pad[2, 3:] = True
    error = (model.predict_action(**inputs) - actions).abs()[~is_pad].mean()
    losses = model(**inputs, actions=actions, action_is_pad=is_pad)
    torch.testing.assert_close(losses["reconstruction_loss"], error)


def test_padded_actions_do_not_reach_the_latent():
    model, inputs, actions = make_model(), make_inputs(), make_actions()
    is_pad = torch.zeros(BATCH, CHUNK_SIZE, dtype=torch.bool)
    is_pad[:, 2:] = True
    spoilt = actions.masked_fill(is_pad[..., None], float("nan"))
    losses = [
        model(**inputs, actions=a, action_is_pad=is_pad, generator=seeded())["kl_loss"]
        for a in (actions, spoilt)
    ]
    assert torch.equal(*losses)


def test_actions_reach_the_prediction_only_through_the_latent():
    model, inputs, actions = make_model(), make_inputs(), make_actions()
    with torch.no_grad():
        model.posterior.output.weight.zero_()
        model.posterior.output.bias.zero_()
    outputs = [
        model(**inputs, actions=a, generator=seeded())["features"] for a in (actions, -actions)
    ]
    assert torch.equal(*outputs)


def test_without_a_variational_encoder_there_is_no_divergence():
    model = make_model(num_posterior_layers=0)
    losses = model(**make_inputs(), actions=make_actions())
    assert "kl_loss" not in losses
    assert torch.equal(losses["loss"], losses["reconstruction_loss"])


def test_cameras_without_an_embedding_are_read_as_a_set():
    model, inputs = make_model(), make_inputs()
    swapped = {**inputs, "images": inputs["images"].flip(1)}
    torch.testing.assert_close(model.predict_action(**swapped), model.predict_action(**inputs))


@pytest.mark.parametrize("cameras", [1, 3])
def test_any_number_of_cameras_is_read_unless_it_is_set(cameras):
    assert make_model().predict_action(**make_inputs(cameras)).isfinite().all()
    with pytest.raises(ShapeError, match=f"images must be from 2 cameras .* got {cameras}"):
        make_model(num_cameras=2).predict_action(**make_inputs(cameras))


@pytest.mark.parametrize(
    "settings", [{"pre_norm": True}, {"activation": "gelu"}, {"state_dim": 0}]
)
def test_variants_train_and_predict(settings):
    model = make_model(**settings)
    model(**make_inputs(), actions=make_actions())["loss"].backward()
    assert model.predict_action(**make_inputs()).shape == (BATCH, CHUNK_SIZE, ACTION_DIM)


def test_robot_units_are_normalised_inside():
    model = make_model(robot_units=True, num_cameras=2)
    plain = make_model(num_cameras=2)
    plain.load_state_dict(
        {key: value for key, value in model.state_dict().items() if "units" not in key}
    )
    inputs, actions = make_inputs(), make_actions()
    model.state_units.offset.fill_(2.0)
    model.action_units.scale.fill_(3.0)
    model.image_units.offset.fill_(0.25)
    given = {"images": inputs["images"] + 0.25, "proprioception": inputs["proprioception"] + 2.0}
    expected = 3.0 * plain.predict_action(**inputs)
    torch.testing.assert_close(model.predict_action(**given), expected)
    losses = model(**given, actions=3.0 * actions, generator=seeded())
    expected = plain(**inputs, actions=actions, generator=seeded())
    torch.testing.assert_close(losses["loss"], expected["loss"])


def test_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match=r"no keywords \['inference_steps'\]"):
        make_model().predict_action(**make_inputs(), inference_steps=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_dim": 30}, "hidden_dim must be a multiple of 4, got 30"),
        ({"num_heads": 5}, "num_heads must divide the width 32, got 5"),
        ({"camera_embedding": True}, "camera_embedding needs num_cameras"),
        ({"activation": "glu"}, "activation must be one of 'relu', 'gelu', got 'glu'"),
        ({"vision_encoder": 3}, "vision_encoder must be an AbstractVisionEncoder or the name"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_model(**settings)
