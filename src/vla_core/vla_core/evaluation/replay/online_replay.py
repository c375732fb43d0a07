# SPDX-License-Identifier: MIT
"""Judge what a policy node answered over ROS while a bag was played, as a replay without ROS does.

The demonstrator, the figures and the page are those of ``BagReplay``; the answers, their latency
and what the command loop made of them come from a recording of the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_core.dataset.bag_observations import BagObservations, ControlTick
from vla_core.dataset.recording import Recording
from vla_core.errors import DatasetError
from vla_core.evaluation.replay.answered_observations import AnsweredObservations
from vla_core.evaluation.replay.bag_replay import AskedTick, BagReplay
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.inference import Answer, LocalInference
from vla_core.evaluation.replay.recorded_answers import RecordedAnswer, RecordedAnswers
from vla_core.evaluation.replay.settings import ReplaySettings
from vla_core.inference.policy import Policy
from vla_core.types import Observation

_TOLERANCE = 1e-4
"""Difference of two chunks in the policy's space, whose joints have a range of about 2, up to
which they are the same: what another machine or another number of threads makes of floats."""


class OnlineReplay(BagReplay):
    """Compares the recorded answers of a run with the demonstrator.

    Args:
        policy: The policy that ran; it is asked again about what the node saw.
        bag: The recording that was played.
        answers: Folder of the recording of the run.
        settings: How the bag is read.
        asks_again: Whether the policy is asked again.
        **options: Those of ``BagReplay``.
    """

    def __init__(
        self,
        policy: Policy,
        bag: str | Path,
        answers: Path,
        settings: ReplaySettings,
        *,
        asks_again: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(LocalInference(policy), bag, settings, **options)
        self._policy = policy
        self._path = answers
        self._asks_again = asks_again
        self._num_chunks = self._num_same = self._num_equal = 0
        self._largest = 0.0

    def run(self) -> BagResult:
        """Compare.

        Raises:
            DatasetError: The bag or the answers cannot be read, or there are no answers.
            ConfigError: The settings do not fit the bag.
        """
        with Recording(self._path) as recording:
            self._answers = RecordedAnswers(recording, self._policy.contract)
            self.span_ns = self._answers.span_ns
            return super().run()

    def _open(self) -> BagObservations:
        contract = self._policy.contract
        return AnsweredObservations(
            self._bag, contract, self._counted(), **{**self._how(), "strict": False}
        )

    def _counted(self) -> Iterator[RecordedAnswer]:
        """Yield the answers and count them."""
        for answer in self._answers:
            self._num_chunks += 1
            identity = answer.chunk.checkpoint_id
            if identity != self._policy.checkpoint_id:
                raise DatasetError(
                    f"answers '{self._path}' are of checkpoint {identity}, not of "
                    f"{self._policy.checkpoint_id}; give the one that ran with --checkpoint."
                )
            yield answer

    def _ask(self, tick: ControlTick) -> AskedTick:
        return AskedTick(tick)

    def _take(self, asked: AskedTick) -> str:
        tick = asked.tick
        if tick.answer is None:
            span = self.span_ns
            is_played = span is None or span[0] <= tick.time_ns <= span[1]
            outcome = self._hear(tick) or "asked"
            return outcome if is_played else "outside"
        self._enter(tick)
        if tick.episode is None or tick.observation is None:
            return "unseen"
        answer = tick.answer
        assert isinstance(answer, RecordedAnswer)
        observation = replace(tick.observation, instruction=answer.chunk.instruction)
        if answer.is_to(observation):
            self._num_same += 1
            if self._asks_again:
                self._ask_again(observation, answer)
        probes = self._probes.see(observation, self._stretch)
        said = Answer(answer.chunk, answer.latency_s)
        self._keep(tick, observation, said, answer.limits, probes)
        return "answered"

    def _ask_again(self, observation: Observation, answer: RecordedAnswer) -> None:
        committed = answer.chunk.policy_actions[: answer.num_committed].copy()
        expected = self._policy.predict_chunk(
            observation,
            seed=self._settings.seed,
            committed=committed if answer.num_committed else None,
        )
        largest = float(np.abs(expected.policy_actions - answer.chunk.policy_actions).max())
        self._num_equal += largest <= _TOLERANCE
        self._largest = max(self._largest, largest)

    def _more_facts(self) -> dict[str, Any]:
        return {
            "online": {
                "chunks": self._num_chunks,
                "same_observation": self._num_same,
                "equal": self._num_equal if self._asks_again else None,
                "largest_difference": self._largest if self._asks_again else None,
                "waits": self._answers.waits.counts(most=5),
            }
        }

    def _require_answers(self, counts: Counter[str]) -> None:
        if not self._num_chunks:
            said = self._answers.last_reason
            raise DatasetError(
                f"answers '{self._path}' hold no chunk on bag '{self._bag}'"
                + (f"; policy_node said last: {said}" if said else "")
                + "."
            )
        super()._require_answers(counts)
