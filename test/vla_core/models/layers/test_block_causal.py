# SPDX-License-Identifier: MIT
import itertools

from hypothesis import given
from hypothesis import strategies as st

from vla_core.models.layers.block_causal import TokenGroup, TokenKind, block_causal_mask

TASK, OBSERVATION, READOUT = TokenKind.TASK, TokenKind.OBSERVATION, TokenKind.READOUT


def test_mask_of_two_steps_is_this_table():
    groups = [
        TokenGroup(TASK, 2),
        TokenGroup(OBSERVATION, 2, step=0),
        TokenGroup(READOUT, 1, step=0),
        TokenGroup(OBSERVATION, 1, step=1),
        TokenGroup(READOUT, 2, step=1),
    ]
    # Columns: task, task, observation 0, observation 0, readout 0, observation 1, readouts 1.
    expected = [
        "11 00 0 0 00",  # task
        "11 00 0 0 00",
        "11 11 0 0 00",  # observation of step 0
        "11 11 0 0 00",
        "11 11 1 0 00",  # readout of step 0
        "11 11 0 1 00",  # observation of step 1
        "11 11 0 1 10",  # readouts of step 1
        "11 11 0 1 01",
    ]
    table = [[entry == "1" for entry in row.replace(" ", "")] for row in expected]
    assert block_causal_mask(groups).tolist() == table


group_lists = st.lists(
    st.builds(TokenGroup, st.sampled_from(TokenKind), st.integers(1, 3), st.integers(0, 3)),
    min_size=1,
    max_size=6,
)


@given(group_lists)
def test_every_pair_of_tokens_follows_the_rule(groups):
    tokens = [group for group in groups for _ in range(group.count)]
    mask = block_causal_mask(groups)
    for (q, query), (k, key) in itertools.product(enumerate(tokens), repeat=2):
        sees_observation = query.kind != TASK and key.step <= query.step
        allowed = {TASK: True, OBSERVATION: sees_observation, READOUT: False}[key.kind]
        assert mask[q, k] == (allowed or q == k)


@given(group_lists)
def test_taking_the_readouts_away_changes_nothing_for_the_others(groups):
    others = [group for group in groups if group.kind != READOUT]
    is_other = [group.kind != READOUT for group in groups for _ in range(group.count)]
    mask = block_causal_mask(groups)
    if others:
        assert (mask[is_other][:, is_other] == block_causal_mask(others)).all()
