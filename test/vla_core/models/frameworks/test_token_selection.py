# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.models.frameworks.token_selection import select_tokens
from vla_core.models.vlm import VLMOutput

IMAGE, TEXT = 3, 4


def read(mask, num_blocks=1, features=None):
    """Return an output whose tokens are numbered from 1, with a mask over the text."""
    text_mask = torch.tensor([mask], dtype=torch.bool).repeat(1, num_blocks)
    block = IMAGE + TEXT
    full = torch.cat(
        [
            torch.ones(1, num_blocks, IMAGE, dtype=torch.bool),
            text_mask.view(1, num_blocks, TEXT),
        ],
        dim=2,
    )
    if features is None:
        features = torch.arange(1.0, num_blocks * block + 1).view(1, -1, 1)
    return VLMOutput(features, full.flatten(1), slice(0, IMAGE), slice(IMAGE, block), num_blocks)


def numbers(output, pattern, count=1):
    return select_tokens(output, pattern, count)[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("mask", "pattern", "count", "expected"),
    [
        ((1, 1, 1, 1), "last", 1, [7]),
        ((1, 1, 0, 0), "last", 1, [5]),
        ((0, 0, 1, 1), "last", 3, [3, 6, 7]),
        ((0, 0, 0, 0), "last", 1, [3]),
        ((1, 1, 1, 1), "first", 2, [4, 5]),
        ((0, 0, 1, 1), "first", 2, [6, 7]),
        ((1, 0, 0, 0), "first", 3, [4, 3, 2]),
        ((0, 0, 0, 0), "first", 1, [3]),
        ((1, 0, 0, 0), "mean", 1, [2.5]),
    ],
)
def test_valid_tokens_are_picked(mask, pattern, count, expected):
    assert numbers(read(mask), pattern, count) == expected


def test_tokens_that_a_row_lacks_are_zeros():
    assert numbers(read((1, 0, 0, 0)), "last", 6) == [0, 0, 1, 2, 3, 4]


def test_cameras_are_averaged():
    output = read((1, 1, 1, 1), num_blocks=2)
    assert numbers(output, "last", 2) == [(6 + 13) / 2, (7 + 14) / 2]
    assert numbers(output, "mean") == [7.5]


@pytest.mark.parametrize("pattern", ["first", "last", "mean"])
def test_content_of_padding_is_never_read(pattern):
    features = torch.arange(1.0, 8.0).view(1, -1, 1)
    changed = features.clone()
    changed[0, 5:] = torch.nan
    for count in (1, 7):
        expected = select_tokens(read((1, 1, 0, 0), features=features), pattern, count)
        padded = select_tokens(read((1, 1, 0, 0), features=changed), pattern, count)
        assert torch.equal(padded, expected)
