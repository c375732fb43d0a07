# SPDX-License-Identifier: MIT
"""Helix's planner and policy apart: the same as together, and nothing but plans that fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vla_core.errors import CheckpointError, PlanError
from vla_core.inference.checkpoint_files import find_checkpoint
from vla_core.inference.helix_tiers import PlannedPolicy, Planner
from vla_core.inference.policy import Policy, black_observation
from vla_core.models.frameworks import HelixVLA
from vla_core.models.frameworks.helix_tiers import HelixPolicy
from vla_core.processing.contract import load_contract
from vla_core.processing.pipeline import ProcessingPipeline

CONTRACT = load_contract("sim")
CHECKPOINT = "untrained:helix"
DT_NS = 100_000_000
STAMP_NS = 1_000_000_000


@pytest.fixture(scope="module")
def planner():
    return Planner.from_checkpoint(CHECKPOINT, CONTRACT)


@pytest.fixture
def policy():
    return PlannedPolicy.from_checkpoint(CHECKPOINT, contract=CONTRACT)


@pytest.fixture(scope="module")
def observation():
    """What the cameras see at STAMP_NS."""
    rng = np.random.default_rng(0)
    black = black_observation(ProcessingPipeline.load(find_checkpoint(CHECKPOINT, CONTRACT)))
    return replace(
        black,
        images={n: rng.integers(0, 256, i.shape, np.uint8) for n, i in black.images.items()},
        instruction="pick up the red block",
        stamp_ns=STAMP_NS,
    )


def test_tiers_apart_give_the_chunk_of_the_whole_model(planner, policy, observation):
    policy.take_plan(planner.plan(observation), STAMP_NS)
    whole = Policy.from_checkpoint(CHECKPOINT, contract=CONTRACT).predict_chunk(observation)
    apart = policy.predict_chunk(observation)
    np.testing.assert_allclose(apart.policy_actions, whole.policy_actions, atol=1e-5)
    assert apart.checkpoint_id == whole.checkpoint_id == planner.checkpoint_id


def test_plan_tells_its_origin(planner, observation):
    plan = planner.plan(observation)
    assert (plan.stamp_ns, plan.instruction) == (STAMP_NS, "pick up the red block")
    assert plan.values.shape == (64,)


@pytest.mark.parametrize(
    ("age_ns", "steps"), [(-20_000_000, 0), (0, 0), (120_000_000, 1), (4 * DT_NS, 4)]
)
def test_age_of_a_plan_is_told_in_steps_of_the_training(
    planner, policy, observation, age_ns, steps
):
    plan = replace(planner.plan(observation), stamp_ns=STAMP_NS - age_ns)
    policy.take_plan(plan, STAMP_NS)
    tier = HelixVLA.load_tier(find_checkpoint(CHECKPOINT, CONTRACT), "policy")
    batch = policy.pipeline.to_batch([observation])
    with torch.no_grad():
        expected = tier(
            torch.from_numpy(plan.values)[None], batch["images"], batch["proprioception"], steps
        )
    np.testing.assert_allclose(
        policy.predict_chunk(observation).policy_actions, expected[0].numpy(), atol=1e-6
    )


def test_plan_older_than_the_training_had_it_is_refused(planner, policy, observation):
    plan = planner.plan(observation)
    with pytest.raises(PlanError, match=r"0\.500 s older than the observation, at most 0\.4 s"):
        policy.take_plan(plan, STAMP_NS + 5 * DT_NS)


def test_plan_from_the_future_is_refused(planner, policy, observation):
    with pytest.raises(PlanError, match=r"0\.900 s after the observation; synchronise"):
        policy.take_plan(planner.plan(observation), STAMP_NS - 9 * DT_NS)


def test_plan_of_another_checkpoint_is_refused_by_name(planner, policy, observation):
    plan = replace(planner.plan(observation), checkpoint_id="other")
    with pytest.raises(PlanError, match=f"'other', but the policy is of '{policy.checkpoint_id}'"):
        policy.take_plan(plan, STAMP_NS)


def test_plan_of_another_width_is_refused(planner, policy, observation):
    plan = replace(planner.plan(observation), values=np.zeros(3, np.float32))
    with pytest.raises(PlanError, match=r"plan must be \[64\], got \[3\]"):
        policy.take_plan(plan, STAMP_NS)


def test_policy_that_knows_no_old_plans_cannot_run_apart(policy):
    tier = HelixPolicy(7, 7, plan_horizon=16, num_cameras=2)
    with pytest.raises(CheckpointError, match="trained with plan_max_age 0"):
        PlannedPolicy(tier, policy.pipeline, "abc")


def test_other_frameworks_have_no_planner():
    with pytest.raises(CheckpointError, match="is of framework 'act', not 'helix'"):
        Planner.from_checkpoint("untrained:act", CONTRACT)
