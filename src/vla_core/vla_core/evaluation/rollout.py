# SPDX-License-Identifier: MIT
"""Run a policy in the gymnasium environment, without ROS and without real time.

The environment stands still while the policy thinks, so a rollout tells what a policy can do, and
the same episodes over ROS tell what latency and asynchrony cost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError
from vla_core.evaluation.episodes import (
    BLACK_IMAGES,
    CONDITIONS,
    NORMAL,
    SWAPPED_INSTRUCTION,
    EpisodeResult,
    describe_outcome,
    other_target,
    success_by_condition,
)
from vla_core.inference.checkpoint_files import find_checkpoint, read_json
from vla_core.sim.env import TabletopEnv
from vla_core.sim.tasks import DEFAULT_TASK
from vla_core.types import ActionChunk, EarlierStep, Observation


class ChunkPolicy(Protocol):
    """What a rollout needs of a policy."""

    @property
    def history_length(self) -> int:
        """Earlier steps that an observation shall have."""

    def predict_chunk(self, observation: Observation, *, seed: int = 0) -> ActionChunk:
        """Return the action chunk that answers an observation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodePlan:
    """One episode to run.

    Attributes:
        number: Its place in the run, from 1.
        seed: Its scene.
        condition: What is changed in it, a key of CONDITIONS.
        target: What it is to be about; None for what the seed draws.
    """

    number: int
    seed: int
    condition: str
    target: str | None = None


def plan_episodes(
    seeds: Iterable[int], conditions: Sequence[str] = (NORMAL,), target: str | None = None
) -> list[EpisodePlan]:
    """Return every scene under every condition.

    Args:
        seeds: Scenes.
        conditions: Keys of CONDITIONS.
        target: What all of them are to be about; None for what the seeds draw.

    Raises:
        ConfigError: A condition does not exist.
    """
    unknown = [condition for condition in conditions if condition not in CONDITIONS]
    if unknown:
        raise ConfigError(
            f"condition {unknown[0]!r} is unknown; available: {', '.join(CONDITIONS)}."
        )
    seeds = list(seeds)
    pairs = [(seed, condition) for condition in conditions for seed in seeds]
    return [
        EpisodePlan(number=number, seed=seed, condition=condition, target=target)
        for number, (seed, condition) in enumerate(pairs, start=1)
    ]


def run_episode(
    policy: ChunkPolicy, env: TabletopEnv, plan: EpisodePlan, *, actions_per_inference: int = 8
) -> EpisodeResult:
    """Run one episode to success, failure or the time limit.

    Args:
        policy: Policy to judge.
        env: Environment; the state of an earlier episode does not matter.
        plan: Scene and condition.
        actions_per_inference: Actions of a chunk that are executed before the next inference.

    Raises:
        ConfigError: A chunk is shorter than `actions_per_inference`, or that is below 1.
    """
    if actions_per_inference < 1:
        raise ConfigError(
            f"actions_per_inference must be at least 1, got {actions_per_inference}."
        )
    frames, info = env.reset(seed=plan.seed, options={"target": plan.target})
    if plan.condition == SWAPPED_INSTRUCTION:
        target = other_target(info["target"], env.sim.targets)
        frames, info = env.reset(seed=plan.seed, options={"target": target})
    highest = dict(info["lifted_m"])
    inference_s = []
    history: deque[EarlierStep] = deque(maxlen=policy.history_length)
    done = False
    while not done:
        observation = _observe(frames, info, plan.condition, history)
        began = time.perf_counter()
        chunk = policy.predict_chunk(observation, seed=plan.seed)
        inference_s.append(time.perf_counter() - began)
        if len(chunk.actions) < actions_per_inference:
            raise ConfigError(
                f"actions_per_inference {actions_per_inference} is more than the "
                f"{len(chunk.actions)} actions of a chunk; give at most {len(chunk.actions)}."
            )
        for action in chunk.actions[:actions_per_inference]:
            if policy.history_length:
                history.append(_earlier(_observe(frames, info, plan.condition)))
            frames, _, terminated, truncated, info = env.step(action.astype(np.float32))
            highest = {c: max(highest[c], height) for c, height in info["lifted_m"].items()}
            done = terminated or truncated
            if done:
                break
    return EpisodeResult(
        number=plan.number,
        seed=plan.seed,
        condition=plan.condition,
        instruction=info["instruction"],
        target=info["target"],
        success=info["success"],
        outcome=describe_outcome(success=info["success"], failure=info["failure"]),
        duration_s=info["elapsed_s"],
        lifted_m=highest,
        inference_ms=1e3 * median(inference_s),
    )


def trained_task(checkpoint: str) -> str:
    """Return the task of the simulation whose demonstrations a checkpoint was trained on.

    Args:
        checkpoint: Folder, or name of a shipped checkpoint.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
    """
    dataset = read_training_report(checkpoint).get("dataset", {})
    return str(dataset.get("sim_task") or DEFAULT_TASK)


def trained_target(checkpoint: str) -> str | None:
    """Return the only target whose demonstrations a checkpoint was trained on; None for all.

    A policy that reads no language is trained so, and can be judged on nothing else.

    Args:
        checkpoint: Folder, or name of a shipped checkpoint.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
    """
    recipe = read_training_report(checkpoint).get("recipe", {})
    named = {stage.get("instruction") for stage in recipe.get("curriculum", ())}
    return named.pop() if len(named) == 1 else None


def read_training_report(checkpoint: str) -> dict[str, Any]:
    """Return what training.json says of a checkpoint; empty if it was not trained.

    Args:
        checkpoint: Folder, or name of a shipped checkpoint.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
    """
    path = find_checkpoint(checkpoint) / "training.json"
    return read_json(path) if path.is_file() else {}


def run_rollout(
    checkpoint: str,
    plans: Sequence[EpisodePlan],
    *,
    task: str = DEFAULT_TASK,
    actions_per_inference: int = 8,
    workers: int = 1,
) -> Iterator[EpisodeResult]:
    """Run episodes of a checkpoint and yield each result in the order of the plans.

    Args:
        checkpoint: Folder, or name of a shipped checkpoint.
        plans: What to run.
        task: Task of the simulation.
        actions_per_inference: Actions of a chunk that are executed before the next inference.
        workers: Number of processes; 1 runs in this one.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
        ConfigError: It was not trained on the robot of the task.
    """
    if workers <= 1:
        runner = _Runner(checkpoint, task, actions_per_inference)
        yield from map(runner.run, plans)
        return
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(
        min(workers, max(1, len(plans))), _start_worker, (checkpoint, task, actions_per_inference)
    ) as pool:
        yield from pool.imap(_run_in_worker, plans)


def summarize_rollout(
    checkpoint_id: str, results: Sequence[EpisodeResult], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return every figure of a rollout as JSON values.

    Args:
        checkpoint_id: Short hash of the weights.
        results: Episodes of all conditions.
        settings: What the user chose.
    """
    return {
        "checkpoint_id": checkpoint_id,
        "settings": dict(settings),
        "success": {
            condition: rate.to_dict() for condition, rate in success_by_condition(results).items()
        },
        "episodes": [result.to_dict() for result in results],
    }


def _observe(
    frames: Mapping[str, NDArray[Any]],
    info: Mapping[str, Any],
    condition: str,
    history: Iterable[EarlierStep] = (),
) -> Observation:
    stamp_ns = round(info["elapsed_s"] * 1e9)
    images = {name: value for name, value in frames.items() if name != "state"}
    if condition == BLACK_IMAGES:
        images = {name: np.zeros_like(image) for name, image in images.items()}
    return Observation(
        images=images,
        state=frames["state"].astype(np.float64),
        instruction=info["instruction"],
        stamp_ns=stamp_ns,
        image_stamps_ns=dict.fromkeys(images, stamp_ns),
        state_stamp_ns=stamp_ns,
        history=tuple(history),
    )


def _earlier(seen: Observation) -> EarlierStep:
    return EarlierStep(images=seen.images, state=seen.state, stamp_ns=seen.stamp_ns)


class _Runner:
    """A policy and an environment in one process."""

    def __init__(self, checkpoint: str, task: str, actions_per_inference: int) -> None:
        from vla_core.inference.policy import Policy

        self._policy = Policy.from_checkpoint(checkpoint)
        self._env = TabletopEnv(task)
        trained, needed = self._policy.contract.action.joints, self._env.sim.joints
        if tuple(trained) != needed:
            raise ConfigError(
                f"task {task!r} moves the joints {', '.join(needed)}; {checkpoint!r} was trained "
                f"for {', '.join(trained)}. Choose another --task or --checkpoint."
            )
        self._actions_per_inference = actions_per_inference

    def run(self, plan: EpisodePlan) -> EpisodeResult:
        return run_episode(
            self._policy,
            self._env,
            plan,
            actions_per_inference=self._actions_per_inference,
        )


_runner: _Runner | None = None


def _start_worker(checkpoint: str, task: str, actions_per_inference: int) -> None:
    global _runner
    _runner = _Runner(checkpoint, task, actions_per_inference)


def _run_in_worker(plan: EpisodePlan) -> EpisodeResult:
    assert _runner is not None
    return _runner.run(plan)
