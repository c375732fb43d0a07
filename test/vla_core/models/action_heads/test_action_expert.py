# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.models.action_heads.action_expert import (
    ActionExpert,
    RMSNorm,
    blockwise_mask,
    rotate,
)
from vla_core.models.vlm.prefix import AttentionLayout

LENGTH, COUNT = 5, 4


def make_expert(rope_theta=10_000.0, num_heads=4, num_kv_heads=2):
    torch.manual_seed(0)
    layout = AttentionLayout(2, num_heads, num_kv_heads, 6, rope_theta)
    return ActionExpert(layout, dim=16, mlp_dim=32).eval()


def make_past(expert, length=LENGTH, batch=2):
    shape = (batch, expert.layout.num_kv_heads, length, expert.layout.head_dim)
    return [(torch.randn(shape), torch.randn(shape)) for _ in expert.layers]


def place(start, count, batch=2):
    return torch.arange(start, start + count).repeat(batch, 1)


def test_the_mask_table_of_three_blocks():
    blocks = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    valid = torch.ones(1, 7, dtype=torch.bool)
    valid[0, 2] = False
    expected = [
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 0],
        [1, 1, 0, 1, 1, 0, 0],
        [1, 1, 0, 1, 1, 1, 1],
        [1, 1, 0, 1, 1, 1, 1],
    ]
    assert blockwise_mask(blocks, blocks, valid)[0].int().tolist() == expected


@pytest.mark.parametrize("rope_theta", [None, 10_000.0])
def test_tokens_run_block_by_block_as_in_one_pass(rope_theta):
    expert = make_expert(rope_theta)
    past, tokens = make_past(expert), torch.randn(2, COUNT, 16)
    blocks = torch.tensor([0] * LENGTH + [1, 2, 2, 2])
    mask = blockwise_mask(blocks[LENGTH:], blocks, torch.ones(2, 9, dtype=torch.bool))
    whole, _ = expert(tokens, place(LENGTH, COUNT), mask, past)
    first, known = expert(tokens[:, :1], place(LENGTH, 1), mask[:, :1, :6], past)
    rest, _ = expert(tokens[:, 1:], place(LENGTH + 1, 3), mask[:, 1:], known)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole)


def test_what_the_mask_hides_has_no_effect():
    expert = make_expert()
    past, tokens = make_past(expert), torch.randn(2, COUNT, 16)
    mask = torch.ones(2, COUNT, LENGTH + COUNT, dtype=torch.bool)
    mask[:, :, 1] = False
    before, _ = expert(tokens, place(LENGTH, COUNT), mask, past)
    for key, value in past:
        key[:, :, 1] += 5.0
        value[:, :, 1] += 5.0
    assert torch.equal(expert(tokens, place(LENGTH, COUNT), mask, past)[0], before)
    past[0][1][:, :, 2] += 5.0
    assert not torch.equal(expert(tokens, place(LENGTH, COUNT), mask, past)[0], before)


@pytest.mark.parametrize("rope_theta", [None, 10_000.0])
def test_the_order_of_tokens_matters(rope_theta):
    expert = make_expert(rope_theta)
    past, tokens = make_past(expert), torch.randn(2, COUNT, 16)
    mask = torch.ones(2, COUNT, LENGTH + COUNT, dtype=torch.bool)
    forward, _ = expert(tokens, place(LENGTH, COUNT), mask, past)
    backward, _ = expert(tokens.flip(1), place(LENGTH, COUNT), mask, past)
    assert not torch.allclose(forward, backward.flip(1), atol=1e-4)


def test_a_shared_key_head_serves_neighbouring_query_heads():
    grouped, full = make_expert(num_kv_heads=2), make_expert(num_kv_heads=4)
    weights = grouped.state_dict()
    for name, weight in weights.items():
        if name.endswith("key_value.weight"):
            heads = weight.view(2, 2, 6, 16).repeat_interleave(2, dim=1)  # [key/value, heads, ...]
            weights[name] = heads.reshape(-1, 16)
    full.load_state_dict(weights)
    past, tokens = make_past(grouped), torch.randn(2, COUNT, 16)
    mask = torch.ones(2, COUNT, LENGTH + COUNT, dtype=torch.bool)
    by_groups, known = grouped(tokens, place(LENGTH, COUNT), mask, past)
    repeated = [[x.repeat_interleave(2, dim=1) for x in layer] for layer in past]
    in_full, _ = full(tokens, place(LENGTH, COUNT), mask, repeated)
    torch.testing.assert_close(by_groups, in_full)
    assert known[0][0].shape == (2, 2, LENGTH + COUNT, 6)


def test_rotated_products_depend_on_the_distance_alone():
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(at, to):
        rotated = (
            rotate(query, torch.tensor([[at]]), 100.0),
            rotate(key, torch.tensor([[to]]), 100.0),
        )
        return (rotated[0] * rotated[1]).sum()

    torch.testing.assert_close(product(7, 3), product(14, 10))
    assert not torch.isclose(product(7, 3), product(7, 4))


def test_a_normalised_vector_has_unit_mean_square():
    normed = RMSNorm(16)(3.0 * torch.randn(5, 16))
    torch.testing.assert_close(normed.square().mean(-1), torch.ones(5))


def test_an_untrained_condition_keeps_the_tokens_as_they_are():
    layout = AttentionLayout(2, 4, 2, 6, 10_000.0)
    expert = ActionExpert(layout, dim=16, mlp_dim=32, condition_dim=8).eval()
    tokens, mask = torch.randn(2, COUNT, 16), torch.ones(2, COUNT, LENGTH + COUNT).bool()
    hidden, _ = expert(tokens, place(LENGTH, COUNT), mask, make_past(expert), torch.randn(2, 8))
    torch.testing.assert_close(hidden, expert.norm(tokens))
