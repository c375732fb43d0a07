# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.layers.detr import DETRDecoderLayer, DETREncoderLayer

DIM, LENGTH, BATCH = 8, 5, 2


def rand(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(layer, **overrides):
    torch.manual_seed(0)
    return layer(DIM, num_heads=2, feedforward_dim=12, **overrides).eval()


@pytest.mark.parametrize("pre_norm", [False, True])
def test_tokens_and_positions_may_be_permuted_together(pre_norm):
    layer, order = make(DETREncoderLayer, pre_norm=pre_norm), torch.tensor([3, 1, 4, 0, 2])
    x, positions = rand(BATCH, LENGTH, DIM), rand(LENGTH, DIM, seed=2)
    permuted = layer(x[:, order], positions[order])
    torch.testing.assert_close(permuted, layer(x, positions)[:, order])


def test_padded_tokens_do_not_reach_the_others():
    layer = make(DETREncoderLayer)
    x, positions = rand(BATCH, LENGTH, DIM), torch.zeros(LENGTH, DIM)
    is_pad = torch.tensor([[False, False, False, True, True]]).expand(BATCH, -1)
    short = layer(x[:, :3], positions[:3])
    torch.testing.assert_close(layer(x, positions, is_pad)[:, :3], short)


def test_positions_reach_no_value():
    layer, x = make(DETREncoderLayer), rand(BATCH, 1, DIM)
    # One token attends to itself alone, whatever the scores: only its value could tell.
    torch.testing.assert_close(layer(x, rand(1, DIM)), layer(x, torch.zeros(1, DIM)))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_queries_read_the_memory_as_a_set(pre_norm):
    layer, order = make(DETRDecoderLayer, pre_norm=pre_norm), torch.tensor([3, 1, 4, 0, 2])
    queries, places = rand(3, DIM), rand(LENGTH, DIM, seed=2)
    x, memory = torch.zeros(BATCH, 3, DIM), rand(BATCH, LENGTH, DIM, seed=3)
    permuted = layer(x, memory[:, order], queries, places[order])
    torch.testing.assert_close(permuted, layer(x, memory, queries, places))


def test_queries_differ_by_their_positions():
    layer, memory = make(DETRDecoderLayer), rand(BATCH, LENGTH, DIM, seed=3)
    out = layer(torch.zeros(BATCH, 2, DIM), memory, rand(2, DIM), rand(LENGTH, DIM, seed=2))
    assert not torch.allclose(out[:, 0], out[:, 1], atol=1e-3)


def test_post_norm_layer_ends_normalised():
    out = make(DETREncoderLayer)(rand(BATCH, LENGTH, DIM), rand(LENGTH, DIM, seed=2))
    torch.testing.assert_close(out.mean(-1), torch.zeros(BATCH, LENGTH), atol=1e-5, rtol=0.0)
    variance = out.var(-1, unbiased=False)
    torch.testing.assert_close(variance, torch.ones(BATCH, LENGTH), atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("layer", [DETREncoderLayer, DETRDecoderLayer])
def test_heads_that_do_not_divide_the_width_are_refused(layer):
    with pytest.raises(ConfigError, match="num_heads must divide the width 8, got 3"):
        layer(8, num_heads=3, feedforward_dim=4)
