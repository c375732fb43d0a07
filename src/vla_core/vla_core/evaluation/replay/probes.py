# SPDX-License-Identifier: MIT
"""Whether a policy looks at its inputs: the same instant again, with one of them spoilt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_core.inference.policy import Policy
from vla_core.types import ActionChunk, Observation

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
        policy: The policy.
        other_instruction: The swapped instruction; None: the last other one of the recording.
    """

    def __init__(self, policy: Policy, other_instruction: str | None) -> None:
        self._policy = policy
        self._fixed = other_instruction
        self._other = other_instruction or _NO_OTHER_TASK
        self._instruction = ""
        self._frozen: NDArray[np.float64] | None = None

    def watch(self, observation: Observation, *, is_start: bool) -> None:
        """See every observation: the state is frozen where an episode starts."""
        if is_start or self._frozen is None:
            self._frozen = observation.state
        if observation.instruction != self._instruction:
            if self._fixed is None and self._instruction:
                self._other = self._instruction
            self._instruction = observation.instruction

    def ask(self, observation: Observation, seed: int) -> dict[str, ActionChunk]:
        """Return the policy's answers by the name of the check."""
        spoilt = {
            INSTRUCTION_SWAPPED: replace(observation, instruction=self._other),
            STATE_FROZEN: self._with_frozen_state(observation),
            **{
                camera_black(name): _without_camera(observation, name)
                for name in observation.images
            },
        }
        answers = {
            name: self._policy.predict_chunk(changed, seed=seed)
            for name, changed in spoilt.items()
        }
        # How much the answer changes by chance is what a change has to be measured against.
        return {ANOTHER_SEED: self._policy.predict_chunk(observation, seed=seed + 1), **answers}

    def _with_frozen_state(self, observation: Observation) -> Observation:
        assert self._frozen is not None
        history = tuple(replace(step, state=self._frozen) for step in observation.history)
        return replace(observation, state=self._frozen, history=history)


def _without_camera(observation: Observation, camera: str) -> Observation:
    def blacken(images: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
        return {**images, camera: np.zeros_like(images[camera])}

    history = tuple(replace(step, images=blacken(step.images)) for step in observation.history)
    return replace(observation, images=blacken(observation.images), history=history)
