# SPDX-License-Identifier: MIT
"""Episodes of the scripted expert, as a demonstrator would record them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_core.sim.env import TabletopEnv
from vla_core.sim.expert import ScriptedExpert
from vla_core.sim.grounding import SceneSampler
from vla_core.sim.scene import CAMERAS, INSTRUCTIONS

_TIME_LIMIT_STEPS = 80
_HOLD_STEPS = 6
_START_PROBABILITIES = {"home": 0.4, "anywhere": 0.25, "near": 0.35}
_START_DRAWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEpisode:
    """One demonstration.

    Attributes:
        images: Frames of every camera, uint8 [T, H, W, 3].
        state: Measured joint positions, rad and m, float32 [T, 7].
        actions: Joint target to be reached one period after each frame, rad and m, float32 [T, 7].
        instruction: What the expert was asked to do.
        success: Whether the block was lifted and held.
        start: Where the arm started: 'home', 'anywhere' or 'near'.
    """

    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    instruction: str
    success: bool
    start: str


class ExpertRecorder:
    """Lets the expert play episodes of the environment and keeps what it saw and did."""

    def __init__(self) -> None:
        """Build the environment and its expert."""
        self._env = TabletopEnv()
        self._expert = ScriptedExpert(self._env.sim)
        self._sampler = SceneSampler(self._env.sim)

    def record(self, seed: int) -> RecordedEpisode:
        """Play one episode.

        Many episodes start away from home: what an imitating policy does a little wrong takes it
        to such places, and there the expert shows the way back.

        Args:
            seed: Decides the scene, the wording and the start.

        Returns:
            The episode, whether it succeeded or not.
        """
        rng = np.random.default_rng([seed, 1])
        observation, info = self._env.reset(seed=seed)
        wording = INSTRUCTIONS[rng.integers(len(INSTRUCTIONS))]
        start = str(rng.choice(list(_START_PROBABILITIES), p=list(_START_PROBABILITIES.values())))
        if start != "home":
            observation = self._start_elsewhere(rng, start, info["target"], seed)
        frames: dict[str, list[NDArray[np.uint8]]] = {camera: [] for camera in CAMERAS}
        states, actions, steps_to_go = [], [], _HOLD_STEPS
        for _ in range(_TIME_LIMIT_STEPS):
            action = self._expert.act(self._env.command).astype(np.float32)
            for camera in CAMERAS:
                frames[camera].append(observation[camera].copy())
            states.append(observation["state"])
            actions.append(action)
            observation, _, _, _, info = self._env.step(action)
            if info["failed"]:
                break
            steps_to_go -= info["success"]
            if steps_to_go == 0:
                break
        return RecordedEpisode(
            images={camera: np.stack(images) for camera, images in frames.items()},
            state=np.stack(states),
            actions=np.stack(actions),
            instruction=wording.format(colour=info["target"]),
            success=info["success"],
            start=start,
        )

    def close(self) -> None:
        """Release the renderer."""
        self._env.close()

    def _start_elsewhere(
        self, rng: np.random.Generator, start: str, target: str, seed: int
    ) -> dict[str, NDArray[np.uint8]]:
        for _ in range(_START_DRAWS):
            if start == "anywhere":
                positions = self._sampler.anywhere(rng)
            else:
                positions = self._sampler.near_block(rng, target)
            observation = self._env.start_from(positions)
            if not self._env.sim.arm_in_contact():
                return observation
        observation, _ = self._env.reset(seed=seed)
        return observation
