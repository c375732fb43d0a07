# SPDX-License-Identifier: MIT
"""The observations of a bag at the instants at which a policy node answered them, live."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vla_core.dataset.bag_observations import BagObservations, PendingTick
from vla_core.evaluation.replay.recorded_answers import RecordedAnswer
from vla_core.processing.contract import RobotContract
from vla_core.types import Observation

_PATIENCE_NS = 20_000_000
"""Time after the start of an inference in which messages may still have been on their way."""


class AnsweredObservations(BagObservations):
    """Control ticks as ever, for the demonstrator's part, and between them the answered ones.

    What the node saw is looked for in the buffer after every arrival: by the stamps that the
    answer names. Where it is not found, since a message came late or never, the tick has what the
    buffer holds soon after.

    Args:
        path: Folder of the recording that was played, or one of its storage files.
        contract: The robot.
        answers: What the policy answered, in order.
        **how: Keywords of ``BagObservations``.
    """

    def __init__(
        self,
        path: str | Path,
        contract: RobotContract,
        answers: Iterable[RecordedAnswer],
        **how: Any,
    ) -> None:
        super().__init__(path, contract, **how)
        self._answers = iter(answers)
        self._due = next(self._answers, None)

    def _before_arrival(self) -> None:
        super()._before_arrival()
        while self._due is not None and self._due.start_ns + _PATIENCE_NS < self._now_ns:
            self._look(self._due, self._due.start_ns + _PATIENCE_NS)

    def _after_arrival(self, topic: str) -> None:
        super()._after_arrival(topic)
        if self._due is None or self._now_ns < self._due.chunk.stamp_ns:
            return
        found = self._sources.buffer.observe("", self._now_ns)
        if isinstance(found, Observation) and self._due.is_to(found):
            self._look(self._due, self._now_ns)

    def _after_last_arrival(self) -> None:
        super()._after_last_arrival()
        if self._due is not None and self._due.chunk.stamp_ns <= self._now_ns:
            self._look(self._due, self._now_ns)

    def _look(self, answer: RecordedAnswer, now_ns: int) -> None:
        observation = self._sources.buffer.observe(answer.chunk.instruction, now_ns)
        episode = self._mark.episode
        self._pending.append(PendingTick(answer.start_ns, observation, episode, answer))
        self._due = next(self._answers, None)
