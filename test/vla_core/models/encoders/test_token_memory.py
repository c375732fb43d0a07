# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ShapeError
from vla_core.models.encoders.token_memory import TokenMemory
from vla_core.models.vlm.base import VLMOutput


def make_output(num_blocks=2):
    mask = torch.ones(3, 4 * num_blocks, dtype=torch.bool)
    mask[:, 3] = False
    features = torch.randn(3, 4 * num_blocks, 6, generator=torch.Generator().manual_seed(0))
    return VLMOutput(features, mask, slice(0, 2), slice(2, 4), num_blocks)


def make_memory(**overrides):
    torch.manual_seed(0)
    return TokenMemory(6, 16, num_heads=2, num_cameras=2, **overrides).eval()


def test_every_token_is_kept_in_the_new_width():
    assert make_memory()(make_output()).shape == (3, 8, 16)


def test_padding_does_not_reach_the_other_tokens():
    memory, output = make_memory(), make_output()
    before = memory(output)
    output.features[:, 3] += 5.0
    after = memory(output)
    assert torch.equal(before[output.mask], after[output.mask])


def test_cameras_see_each_other():
    memory, output = make_memory(), make_output()
    before = memory(output)[:, :3]
    output.features[:, 4:] += torch.randn(3, 4, 6)
    assert not torch.allclose(memory(output)[:, :3], before, atol=1e-4)


def test_the_same_tokens_of_two_cameras_are_told_apart():
    output = make_output()
    output.features[:, 4:] = output.features[:, :4]
    tokens = make_memory(num_blocks=0)(output)
    assert not torch.allclose(tokens[:, :4], tokens[:, 4:], atol=1e-4)


def test_features_in_bfloat16_become_float32():
    tokens = make_memory()(make_output().to("cpu", torch.bfloat16))
    assert tokens.dtype == torch.float32


def test_more_cameras_than_it_was_built_for_are_refused():
    with pytest.raises(ShapeError, match=r"at most 2 cameras \(num_cameras\), got 3"):
        make_memory()(make_output(3))
