# SPDX-License-Identifier: MIT
import dataclasses

import pytest
import torch

from vla_core.errors import ShapeError
from vla_core.models.encoders import ContextPooling
from vla_core.models.vlm import VLMOutput


def make_output(batch=2, cameras=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, cameras * 6, 8, generator=generator)
    mask = torch.ones(batch, cameras * 6, dtype=torch.bool)
    mask[:, 5::6] = False
    return VLMOutput(features, mask, slice(0, 4), slice(4, 6), cameras, (2, 2))


@pytest.fixture
def pooling():
    torch.manual_seed(0)
    return ContextPooling(
        8, output_dim=10, pooling_dim=4, num_queries=3, num_heads=2, num_cameras=2
    )


def test_context_has_one_vector_per_row(pooling):
    assert pooling(make_output()).shape == (2, 10)


def test_padding_has_no_influence(pooling):
    output = make_output()
    features = torch.where(output.mask[..., None], output.features, 50.0)
    changed = dataclasses.replace(output, features=features)
    torch.testing.assert_close(pooling(output), pooling(changed))


def test_the_place_of_a_feature_is_seen(pooling):
    output = make_output()
    features = output.features.clone()
    features[:, [0, 3]] = features[:, [3, 0]]
    moved = dataclasses.replace(output, features=features)
    assert not torch.allclose(pooling(output), pooling(moved), atol=1e-3)


def test_the_camera_of_a_feature_is_seen(pooling):
    output = make_output()
    swapped = dataclasses.replace(output, features=output.features.roll(6, dims=1))
    assert not torch.allclose(pooling(output), pooling(swapped), atol=1e-4)


def test_tokens_that_are_no_grid_are_placed_by_their_index(pooling):
    output = dataclasses.replace(make_output(), image_grid=None)
    assert pooling(output).shape == (2, 10)


def test_more_cameras_than_embedded_are_refused(pooling):
    with pytest.raises(ShapeError, match=r"at most 2 cameras.*got 3"):
        pooling(make_output(cameras=3))
