# SPDX-License-Identifier: MIT
"""What is wanted: the chunk at the times when the targets are due, or a leader at rest."""

import numpy as np
import pytest

from vla_core.inference.action_chunks import ChunkSampler
from vla_core.inference.coming_targets import ComingTargets
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.types import ActionChunk

NOW_NS = 10**9
TICK_NS = 20_000_000
HOME = np.array([0.0, 0.1, 1.5, 0.0, 1.4, 0.0, 0.04])
OPEN, CLOSED = 0.045, 0.0


def make_contract(**gripper) -> RobotContract:
    gripper = {"gripper_joint": {"open": OPEN, "closed": CLOSED, **gripper}}
    return RobotContract.from_dict(load_contract("sim").to_dict() | {"grippers": gripper})


@pytest.fixture
def sampler():
    """A chunk that leads all joints away from home."""
    contract = load_contract("sim")
    actions = HOME + np.linspace(0.05, 0.5, 8)[:, None] * np.array([1.0] * 6 + [-0.02])
    sampler = ChunkSampler(contract.action.joints, max_age_s=contract.action.max_age_s)
    chunk = ActionChunk(
        actions=actions,
        policy_actions=actions.astype(np.float32),
        joints=contract.action.joints,
        dt_s=0.1,
        stamp_ns=NOW_NS,
        checkpoint_id="test",
        instruction="",
    )
    sampler.add(chunk, now_ns=NOW_NS, start=HOME)
    return sampler


def make_targets(sampler, **gripper) -> ComingTargets:
    targets = ComingTargets(make_contract(**gripper), sampler, None, lead_s=0.05, num_ticks=3)
    targets.start(HOME)
    return targets


def test_targets_are_the_chunk_s_a_lead_after_the_coming_ticks(sampler):
    positions, velocities = make_targets(sampler).of_chunk(HOME, NOW_NS)
    due_ns = [NOW_NS + 50_000_000 + tick * TICK_NS for tick in (1, 2, 3)]
    wanted = np.array([sampler.sample(time_ns) for time_ns in due_ns])
    np.testing.assert_array_equal(positions, wanted[:, 0])
    np.testing.assert_array_equal(velocities, wanted[:, 1])


def test_a_leader_is_where_it_is_at_rest(sampler):
    leader = HOME + 0.001
    positions, velocities = make_targets(sampler).of_leader(leader)
    np.testing.assert_array_equal(positions, np.tile(leader, (3, 1)))
    assert not velocities.any()


def test_a_binary_gripper_is_decided_whoever_is_followed(sampler):
    targets = make_targets(sampler, mode="binary")
    positions, velocities = targets.of_chunk(HOME, NOW_NS)
    assert positions[:, -1].tolist() == [OPEN] * 3
    assert not velocities[:, -1].any()
    assert velocities[:, :-1].all()
    positions, _ = targets.of_leader(np.full(7, CLOSED))
    assert positions[:, -1].tolist() == [CLOSED] * 3
