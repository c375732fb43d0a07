# SPDX-License-Identifier: MIT
"""Episodes of the scripted expert, as a demonstrator would record them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_core.sim.env import ACTION_PERIOD_S, TabletopEnv
from vla_core.sim.tasks import DEFAULT_TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEpisode:
    """One demonstration.

    Attributes:
        images: Frames of every camera, uint8 [T, H, W, 3].
        state: Measured joint positions, rad and m, float32 [T, J].
        actions: Joint target to be reached one period after each frame, rad and m, float32 [T, J].
        instruction: What the expert was asked to do.
        success: Whether the task was done.
        start: The kind of start that the demonstrator chose: 'home', 'near'.
    """

    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    instruction: str
    success: bool
    start: str


class ExpertRecorder:
    """Lets the expert play episodes of a task and keeps what it saw and did."""

    def __init__(self, task: str = DEFAULT_TASK) -> None:
        """Build the environment and its expert.

        Args:
            task: Name of a task.

        Raises:
            UnknownNameError: The task does not exist.
        """
        self._env = TabletopEnv(task)
        self._expert = self._env.task.demonstrator_class()(self._env.sim)

    def record(self, seed: int) -> RecordedEpisode:
        """Play one episode.

        Args:
            seed: Decides the scene, the wording and the start.

        Returns:
            The episode, whether it succeeded or not.
        """
        rng = np.random.default_rng([seed, 1])
        observation, info = self._env.reset(seed=seed)
        wordings = self._env.sim.wordings(info["target"])
        wording = wordings[rng.integers(len(wordings))]
        start, positions = self._expert.choose_start(rng)
        if positions is None:
            observation, info = self._env.reset(seed=seed)
        else:
            observation = self._env.start_from(positions)
        cameras = self._env.sim.cameras
        frames: dict[str, list[NDArray[np.uint8]]] = {camera: [] for camera in cameras}
        states, actions, steps_to_go = [], [], self._expert.hold_steps
        for _ in range(round(self._expert.time_limit_s / ACTION_PERIOD_S)):
            action = self._expert.act(self._env.command).astype(np.float32)
            for camera in cameras:
                frames[camera].append(observation[camera].copy())
            states.append(observation["state"])
            actions.append(action)
            observation, _, _, _, info = self._env.step(action)
            if info["failed"]:
                break
            steps_to_go -= info["success"]
            if steps_to_go <= 0:
                break
        return RecordedEpisode(
            images={camera: np.stack(images) for camera, images in frames.items()},
            state=np.stack(states),
            actions=np.stack(actions),
            instruction=wording,
            success=info["success"],
            start=start,
        )

    def close(self) -> None:
        """Release the renderer."""
        self._env.close()
