# SPDX-License-Identifier: MIT
"""Whom a replay asks: a policy that answers at once, or in another process and later."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vla_core.processing.contract import RobotContract
from vla_core.processing.normalization import Normalizer
from vla_core.types import ActionChunk, Observation

if TYPE_CHECKING:
    from vla_core.inference.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyFacts:
    """What the judge of a policy has to know of it; PyTorch is not needed for that.

    Attributes:
        contract: The robot.
        checkpoint_id: Short hash of the weights.
        chunk_size: Steps of a chunk.
        history_length: Earlier steps of an observation.
        actions: Maps actions in robot units to the policy's space.
    """

    contract: RobotContract
    checkpoint_id: str
    chunk_size: int
    history_length: int
    actions: Normalizer

    @classmethod
    def of(cls, policy: Policy) -> PolicyFacts:
        """Return those of a policy."""
        pipeline = policy.pipeline
        return cls(
            contract=policy.contract,
            checkpoint_id=policy.checkpoint_id,
            chunk_size=pipeline.chunk_size,
            history_length=pipeline.history_length,
            actions=Normalizer(pipeline.normalization, pipeline.action_statistics),
        )


class Answer(NamedTuple):
    """What a policy answered.

    Attributes:
        chunk: The chunk.
        latency_s: How long the inference took.
    """

    chunk: ActionChunk
    latency_s: float


PendingAnswer = Callable[[], Answer]
"""Returns an answer, as soon as it is there; raises what the inference raised."""


class Inference(Protocol):
    """A policy that can be asked.

    Attributes:
        facts: Which one.
        num_ahead: How many observations to ask about before the first answer is needed.
    """

    facts: PolicyFacts
    num_ahead: int

    def ask(self, observation: Observation, seed: int) -> PendingAnswer:
        """Ask what the policy does on an observation."""
        ...


class LocalInference:
    """Asks a policy in this process; the answer is there at once.

    Args:
        policy: The policy.
    """

    num_ahead = 0

    def __init__(self, policy: Policy) -> None:
        self.facts = PolicyFacts.of(policy)
        self._policy = policy

    def ask(self, observation: Observation, seed: int) -> PendingAnswer:
        """Infer.

        Raises:
            ShapeError: The observation is not what the contract describes.
            SafetyError: The model returned a value that is not finite.
        """
        answer = infer(self._policy, observation, seed)
        return lambda: answer


def infer(policy: Policy, observation: Observation, seed: int) -> Answer:
    """Return a policy's answer and the time that it took, as its node measures it."""
    begin = time.perf_counter()
    chunk = policy.predict_chunk(observation, seed=seed)
    return Answer(chunk, time.perf_counter() - begin)
