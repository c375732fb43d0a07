# SPDX-License-Identifier: MIT
import math

import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.layers.positional import (
    feature_map_embedding,
    grid_embedding,
    interleaved_embedding,
    sinusoidal_embedding,
)


def test_embedding_holds_sines_then_cosines_of_the_position():
    embedded = sinusoidal_embedding(torch.tensor([0.0, 1.0]), 4, max_period=100.0)
    assert embedded[0].tolist() == [0.0, 0.0, 1.0, 1.0]
    expected = [math.sin(1.0), math.sin(0.1), math.cos(1.0), math.cos(0.1)]
    assert embedded[1].tolist() == pytest.approx(expected)


def test_all_diffusion_timesteps_differ():
    embedded = sinusoidal_embedding(torch.arange(100), 64)
    distances = torch.cdist(embedded, embedded) + 10.0 * torch.eye(100)
    assert distances.min() > 0.1


def test_grid_embedding_is_row_major_and_tells_rows_from_columns():
    cells = grid_embedding(2, 3, 8).view(2, 3, 8)
    assert torch.equal(cells[1, 0, :4], cells[1, 2, :4])
    assert torch.equal(cells[0, 2, 4:], cells[1, 2, 4:])
    assert len(cells.flatten(0, 1).unique(dim=0)) == 6


def test_widths_that_cannot_be_split_are_refused():
    with pytest.raises(ConfigError, match="even, got 5"):
        sinusoidal_embedding(torch.arange(3), 5)
    with pytest.raises(ConfigError, match="multiple of 4, got 6"):
        grid_embedding(2, 2, 6)


def test_interleaved_embedding_has_the_same_numbers_by_turns():
    positions = torch.arange(5)
    apart, mixed = sinusoidal_embedding(positions, 8), interleaved_embedding(positions, 8)
    assert torch.equal(mixed[:, 0::2], apart[:, :4])
    assert torch.equal(mixed[:, 1::2], apart[:, 4:])


def test_every_cell_of_a_feature_map_has_its_own_embedding():
    embedded = feature_map_embedding(3, 4, 16)
    assert embedded.shape == (12, 16)
    assert torch.cdist(embedded, embedded).fill_diagonal_(1.0).min() > 0.05


def test_feature_map_embedding_tells_row_and_column_apart():
    embedded = feature_map_embedding(3, 4, 16).view(3, 4, 16)
    assert torch.equal(embedded[:, :1, :8].expand(3, 4, 8), embedded[..., :8])
    assert torch.equal(embedded[:1, :, 8:].expand(3, 4, 8), embedded[..., 8:])


def test_last_cell_of_a_feature_map_is_the_same_whatever_its_size():
    small, large = feature_map_embedding(2, 2, 16), feature_map_embedding(9, 5, 16)
    torch.testing.assert_close(small[-1], large[-1], atol=1e-4, rtol=0.0)


def test_feature_map_embedding_of_another_width_is_refused():
    with pytest.raises(ConfigError, match="multiple of 4, got 6"):
        feature_map_embedding(2, 2, 6)
