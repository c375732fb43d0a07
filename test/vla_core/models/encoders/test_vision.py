# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError, UnknownNameError
from vla_core.models.encoders import PatchVisionEncoder, get_vision_encoder
from vla_core.models.encoders.vision import (
    IMAGENET_MEAN,
    AbstractVisionEncoder,
    ImageNormalization,
    register_vision_encoder,
    vision_encoder_from_config,
)
from vla_core.models.vlm import get_vlm

BUILDERS = {
    "patch_merging": {"image_size": 32, "output_dim": 16},
    "patch": {"output_dim": 16, "hidden_dims": (8, 8, 8, 16)},
    "resnet": {"depth": 18, "width": 8},
}


@pytest.fixture(params=sorted(BUILDERS))
def encoder(request):
    torch.manual_seed(0)
    return get_vision_encoder(request.param, **BUILDERS[request.param])


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def test_features_are_a_map_of_the_promised_width(encoder):
    features = encoder(rand(2, 3, 64, 64))
    assert features.shape[:2] == (2, encoder.output_dim)
    assert features.shape[2] == features.shape[3] > 1


@pytest.mark.parametrize("name", ["patch", "resnet"])
def test_a_map_has_the_proportions_of_the_image(name):
    features = get_vision_encoder(name, **BUILDERS[name])(rand(2, 3, 64, 96))
    assert features.shape[2] / features.shape[3] == pytest.approx(64 / 96)


def test_images_do_not_depend_on_each_other(encoder):
    images = rand(3, 3, 32, 32)
    torch.testing.assert_close(encoder(images)[1:2], encoder(images[1:2]))


def test_configuration_rebuilds_the_encoder(encoder):
    config = encoder.get_config()
    rebuilt = vision_encoder_from_config(config)
    rebuilt.load_state_dict(encoder.state_dict())
    assert rebuilt.get_config() == config
    images = rand(1, 3, 32, 32)
    assert torch.equal(rebuilt(images), encoder(images))


def test_frozen_encoder_stays_in_eval_mode_and_gets_no_gradient(encoder):
    encoder.freeze()
    encoder.train()
    assert not encoder.training
    assert not encoder(rand(1, 3, 32, 32)).requires_grad


def test_pretrained_patches_are_the_eyes_of_the_tiny_vlm():
    encoder = get_vision_encoder("patch_merging", pretrained=True)
    vlm = get_vlm("tiny", pretrained=True)
    images = rand(2, 3, 96, 96)
    assert torch.equal(encoder(images).permute(0, 2, 3, 1), vlm.stem(2.0 * images - 1.0))
    assert "pretrained" not in encoder.get_config()


def test_an_image_that_patches_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match="image_size must be a multiple of 16, got 100"):
        get_vision_encoder("patch_merging", image_size=100)


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(ShapeError, match=r"at least 16 px high and wide, got \[15, 32\]"):
        PatchVisionEncoder()(rand(1, 3, 15, 32))


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"'vit' is not registered; available: .*'patch'"):
        get_vision_encoder("vit")


def test_unknown_keyword_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown keys \['wide'\]; valid: output_dim"):
        get_vision_encoder("patch", wide=3)


def test_configuration_without_a_name_is_refused():
    with pytest.raises(ConfigError, match=r"must have a 'name', got keys \['depth'\]"):
        vision_encoder_from_config({"depth": 18})


def test_taken_name_is_refused():
    class Another(AbstractVisionEncoder):
        pass

    with pytest.raises(ConfigError, match="'patch' is already registered by PatchVisionEncoder"):
        register_vision_encoder("patch")(Another)


def test_normalisation_maps_the_mean_to_zero():
    images = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert torch.equal(ImageNormalization()(images), torch.zeros(2, 3, 4, 4))


def test_normalisation_without_a_mean_changes_nothing():
    images = rand(1, 3, 4, 4)
    assert ImageNormalization(None)(images) is images


@pytest.mark.parametrize("hidden_dims", [(8, 8, 8), (8, 8, 8, 12), (4, 8, 8, 8)])
def test_impossible_widths_are_refused(hidden_dims):
    with pytest.raises(ConfigError, match="hidden_dims must be four multiples of 8"):
        PatchVisionEncoder(hidden_dims=hidden_dims)
