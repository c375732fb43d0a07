# SPDX-License-Identifier: MIT
import torch

from vla_core.models.layers.normalization import AffineNormalization


def make_normalization():
    normalization = AffineNormalization(2)
    normalization.offset.copy_(torch.tensor([1.0, -2.0]))
    normalization.scale.copy_(torch.tensor([2.0, 0.5]))
    return normalization


def test_new_normalisation_is_the_identity():
    x = torch.tensor([[3.0, 4.0]])
    assert torch.equal(AffineNormalization(2).normalize(x), x)


def test_offset_is_subtracted_before_the_division():
    assert make_normalization().normalize(torch.tensor([5.0, -1.0])).tolist() == [2.0, 2.0]


def test_unnormalising_undoes_normalising():
    normalization, x = make_normalization(), torch.tensor([[3.0, 4.0], [-1.0, 0.0]])
    torch.testing.assert_close(normalization.unnormalize(normalization.normalize(x)), x)


def test_constants_travel_with_the_weights_and_are_not_trained():
    normalization = make_normalization()
    assert set(normalization.state_dict()) == {"offset", "scale"}
    assert not list(normalization.parameters())
