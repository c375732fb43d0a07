# SPDX-License-Identifier: MIT
"""What the shipped policies are promised to do, in the gymnasium loop on scenes they never saw."""

from __future__ import annotations

import pytest

from vla_core.evaluation.episodes import BLACK_IMAGES, NORMAL, SWAPPED_INSTRUCTION, other_target
from vla_core.evaluation.rollout import (
    plan_episodes,
    run_episode,
    run_rollout,
    trained_target,
    trained_task,
)
from vla_core.evaluation.seeds import held_out_seeds
from vla_core.inference.checkpoint_files import shipped_checkpoints
from vla_core.inference.policy import Policy
from vla_core.sim.env import TabletopEnv
from vla_core.sim.scene import COLOURS

pytestmark = pytest.mark.slow

SCENES = held_out_seeds(150_000, 20)
DARK_TIME_LIMIT_S = 5.0  # Each episode in the dark lasts until then.


@pytest.fixture(scope="module")
def run():
    """Run the shipped policy through scenes under one condition."""
    policy, env = Policy.from_checkpoint("groot"), TabletopEnv()
    yield lambda seeds, condition: [
        run_episode(policy, env, plan) for plan in plan_episodes(seeds, [condition])
    ]
    env.close()


@pytest.fixture(scope="module")
def plain(run):
    return run(SCENES, NORMAL)


@pytest.fixture(scope="module")
def swapped(run):
    return run(SCENES, SWAPPED_INSTRUCTION)


def successes(episodes):
    return sum(episode.success for episode in episodes)


def test_four_of_five_held_out_scenes_succeed(plain):
    assert len({episode.seed for episode in plain}) == len(SCENES)
    assert successes(plain) >= 0.8 * len(plain), [episode.outcome for episode in plain]


def test_every_colour_is_asked_for(plain, swapped):
    for episodes in (plain, swapped):
        assert {episode.target for episode in episodes} == set(COLOURS)


def test_the_block_named_instead_is_lifted(plain, swapped):
    for before, after in zip(plain, swapped, strict=True):
        assert after.target == other_target(before.target, list(COLOURS))
        assert after.target in after.instruction
    assert successes(swapped) >= 0.8 * len(swapped), [episode.outcome for episode in swapped]


def test_no_scene_succeeds_in_the_dark(run, plain, monkeypatch):
    monkeypatch.setattr("vla_core.sim.scene.TabletopSim.time_limit_s", DARK_TIME_LIMIT_S)
    dark = run(SCENES, BLACK_IMAGES)
    assert successes(dark) == 0, [episode.outcome for episode in dark]
    # With images that time is enough.
    assert max(episode.duration_s for episode in plain if episode.success) < DARK_TIME_LIMIT_S


@pytest.mark.parametrize("checkpoint", sorted({*shipped_checkpoints()} - {"groot"}))
def test_every_other_shipped_policy_masters_three_of_four_scenes(checkpoint):
    plans = plan_episodes(SCENES[:8], target=trained_target(checkpoint))
    results = list(run_rollout(checkpoint, plans, task=trained_task(checkpoint)))
    assert successes(results) >= 6, [episode.outcome for episode in results]
