# SPDX-License-Identifier: MIT
"""Whether a policy looks at its inputs: the same instant again, with one of them spoilt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_core.evaluation.replay.inference import Inference, PendingAnswer
from vla_core.evaluation.replay.settings import ReplaySettings
from vla_core.types import Observation

ANOTHER_SEED = "another seed"
INSTRUCTION_SWAPPED = "instruction swapped"
STATE_FROZEN = "state frozen"
_NO_OTHER_TASK = "stay where you are"


def camera_black(camera: str) -> str:
    """Return the name of the check in which a camera is black."""
    return f"camera {camera} black"


class Probes:
    """Asks the policy again with one input spoilt.

    Args:
        inference: The policy.
        settings: How often, with which seed, and the swapped instruction; without one it is the
            last other one of the recording.
    """

    def __init__(self, inference: Inference, settings: ReplaySettings) -> None:
        self._inference = inference
        self._settings = settings
        self._other = settings.other_instruction or _NO_OTHER_TASK
        self._instruction = ""
        self._stretch: object = None
        self._frozen: NDArray[np.float64] | None = None
        self._num_seen = 0

    def see(self, observation: Observation, stretch: object) -> dict[str, PendingAnswer]:
        """Take every observation that the policy answers; ask again about some of them.

        Args:
            observation: The observation.
            stretch: Of which unbroken stretch it is: the state is frozen where one starts.

        Returns:
            The policy's answers by the name of the check; empty if there is none now.
        """
        if stretch != self._stretch or self._frozen is None:
            self._stretch, self._frozen = stretch, observation.state
        if observation.instruction != self._instruction:
            if self._settings.other_instruction is None and self._instruction:
                self._other = self._instruction
            self._instruction = observation.instruction
        every = self._settings.probe_every
        is_due = every > 0 and self._num_seen % every == every // 2
        self._num_seen += 1
        return self._ask(observation) if is_due else {}

    def _ask(self, observation: Observation) -> dict[str, PendingAnswer]:
        seed = self._settings.seed
        spoilt = {
            INSTRUCTION_SWAPPED: replace(observation, instruction=self._other),
            STATE_FROZEN: self._with_frozen_state(observation),
            **{
                camera_black(name): _without_camera(observation, name)
                for name in observation.images
            },
        }
        # How much the answer changes by chance is what a change has to be measured against.
        by_chance = self._inference.ask(observation, seed + 1)
        answers = {name: self._inference.ask(changed, seed) for name, changed in spoilt.items()}
        return {ANOTHER_SEED: by_chance, **answers}

    def _with_frozen_state(self, observation: Observation) -> Observation:
        assert self._frozen is not None
        history = tuple(replace(step, state=self._frozen) for step in observation.history)
        return replace(observation, state=self._frozen, history=history)


def _without_camera(observation: Observation, camera: str) -> Observation:
    def blacken(images: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
        return {**images, camera: np.zeros_like(images[camera])}

    history = tuple(replace(step, images=blacken(step.images)) for step in observation.history)
    return replace(observation, images=blacken(observation.images), history=history)
