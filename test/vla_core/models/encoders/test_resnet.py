# SPDX-License-Identifier: MIT
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vla_core.errors import CheckpointError, ConfigError
from vla_core.models.encoders import ResNetEncoder
from vla_core.models.encoders.resnet import FrozenBatchNorm


def make_encoder(**overrides):
    torch.manual_seed(0)
    return ResNetEncoder(**{"width": 8, **overrides}).eval()


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_166_912), (34, 21_267_648)])
def test_published_size_has_the_published_convolutions(depth, parameters):
    assert sum(p.numel() for p in ResNetEncoder(depth).parameters()) == parameters


def test_one_feature_stands_for_32_pixels():
    assert make_encoder()(rand(1, 3, 96, 64)).shape == (1, 64, 3, 2)


def test_frozen_normalisation_is_batch_normalisation_in_eval_mode():
    reference, frozen = nn.BatchNorm2d(4).eval(), FrozenBatchNorm(4)
    with torch.no_grad():
        for value in (reference.weight, reference.bias, reference.running_mean):
            value.normal_()
        reference.running_var.uniform_(0.5, 2.0)
    frozen.load_state_dict(
        {k: v for k, v in reference.state_dict().items() if k != "num_batches_tracked"}
    )
    x = rand(2, 4, 3, 3)
    torch.testing.assert_close(frozen(x), reference(x))


def test_normalisation_is_not_trained():
    encoder = make_encoder().train()
    assert not [name for name, _ in encoder.named_parameters() if "bn" in name]
    statistics = encoder.bn1.running_mean.clone()
    encoder(rand(2, 3, 32, 32))
    assert torch.equal(encoder.bn1.running_mean, statistics)


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for enable in (False, True):
        encoder = make_encoder().train()
        if enable:
            encoder.gradient_checkpointing_enable()
        encoder(rand(2, 3, 32, 32)).sum().backward()
        gradients.append(encoder.layer1[0].conv1.weight.grad)
    torch.testing.assert_close(*gradients)


def test_weights_with_torchvision_s_names_load_without_the_classifier(tmp_path):
    source, target = make_encoder(), make_encoder()
    with torch.no_grad():
        source.conv1.weight.add_(1.0)
    extra = {"fc.weight": torch.zeros(2, 2), "bn1.num_batches_tracked": torch.zeros(())}
    save_file({**source.state_dict(), **extra}, tmp_path / "resnet.safetensors")
    target.load_torchvision(tmp_path / "resnet.safetensors")
    images = rand(1, 3, 32, 32)
    assert torch.equal(target(images), source(images))


def test_weights_of_another_depth_are_refused(tmp_path):
    save_file(make_encoder().state_dict(), tmp_path / "resnet.safetensors")
    with pytest.raises(CheckpointError, match=r"missing in the file"):
        make_encoder(depth=34).load_torchvision(tmp_path / "resnet.safetensors")


def test_unknown_depth_is_refused():
    with pytest.raises(ConfigError, match=r"must be one of \[18, 34\], got 50"):
        ResNetEncoder(50)
