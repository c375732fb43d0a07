# SPDX-License-Identifier: MIT
"""How often the policy succeeds in the simulation, while it is trained."""

from __future__ import annotations

import torch

from vla_core.dataset.reader import EpisodeDataset
from vla_core.errors import ConfigError
from vla_core.evaluation.seeds import HELD_OUT_SEEDS
from vla_core.inference.policy import Policy
from vla_core.models.frameworks import AbstractVLA
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.sim.tasks import DEFAULT_TASK, get_task
from vla_core.training.checkpoint import random_state, restore_random_state
from vla_core.training.recipe_sections import RolloutRecipe


def simulated_task(dataset: EpisodeDataset, robot: str) -> str:
    """Return the task of the simulation that a dataset demonstrates.

    Raises:
        ConfigError: The robot is not that of the simulation.
    """
    facts = dataset.metadata(0) if dataset.num_episodes else {}
    task = str(facts.get("sim_task") or DEFAULT_TASK)
    simulated = get_task(task).contract
    if robot != simulated:
        raise ConfigError(
            f"rollout.every_steps is given, but robot '{robot}' is not that of the simulated task "
            f"'{task}', '{simulated}'; set rollout.every_steps=0."
        )
    return task


def success_rate(
    model: AbstractVLA, pipeline: ProcessingPipeline, recipe: RolloutRecipe, task: str
) -> float:
    """Run episodes and return the share that succeeded, in [0, 1].

    Their scenes are neither those of training nor those that `vla rollout` starts with. Modes,
    threads and random generators are left as they were.

    Args:
        model: Policy.
        pipeline: What it is trained with.
        recipe: Number of episodes, and actions per inference.
        task: Task of the simulation.
    """
    # Training without rollouts needs no gymnasium and no MuJoCo.
    from vla_core.evaluation.rollout import plan_episodes, run_episode
    from vla_core.sim.env import TabletopEnv

    was_training, num_threads, state = model.training, torch.get_num_threads(), random_state()
    device = next(model.parameters()).device
    env = TabletopEnv(task)
    try:
        policy = Policy(model, pipeline, "in-training", device=device.type)
        plans = plan_episodes(HELD_OUT_SEEDS[-recipe.episodes :])
        actions = recipe.actions_per_inference
        results = [run_episode(policy, env, plan, actions_per_inference=actions) for plan in plans]
    finally:
        env.close()
        model.train(was_training)
        torch.set_num_threads(num_threads)
        restore_random_state(state)
    return sum(result.success for result in results) / len(results)
