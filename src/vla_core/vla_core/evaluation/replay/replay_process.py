# SPDX-License-Identifier: MIT
"""A replay in two processes: one reads and judges the recording, the other one only infers.

What is read, compared, followed by the command stream and written then costs the policy no time,
where there are two cores. The other process runs the same ``BagReplay``; it reads a few control
ticks ahead of the answers, and whatever it raises is raised here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from dataclasses import replace
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vla_core.errors import DatasetError, VLAError
from vla_core.evaluation.replay.shared_ring import Parcel, SharedRing

if TYPE_CHECKING:
    from vla_core.evaluation.replay.bag_replay import Progress
    from vla_core.evaluation.replay.bag_result import BagResult
    from vla_core.evaluation.replay.inference import Answer, PendingAnswer, PolicyFacts
    from vla_core.evaluation.replay.runner import ReplayJob
    from vla_core.inference.policy import Policy
    from vla_core.types import Observation

_NUM_AHEAD = 4
_RING_BYTES = 32 << 20
_PATIENCE_S = 5.0


class _Order(NamedTuple):
    """What to replay."""

    job: ReplayJob
    bag: Path
    facts: PolicyFacts


class _Question(NamedTuple):
    """An observation to be answered."""

    observation: Parcel
    seed: int


class _Elapsed(NamedTuple):
    """How far the replay is."""

    elapsed_s: float
    duration_s: float


class ReplayProcess:
    """The process that reads and judges; use it in a `with` statement.

    It starts at once, so that it loads its modules while the caller loads the policy. One that is
    killed costs the recording that it was at: the next one is replayed by another.
    """

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._memory = self._context.RawArray("B", _RING_BYTES)
        self._ring = SharedRing(self._memory)
        self._is_busy = False
        self._start()

    def __enter__(self) -> ReplayProcess:
        """Return this."""
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the process; a replay that has not ended closes its files."""
        self._connection.close()
        self._process.join(_PATIENCE_S if self._is_busy else 0.0)
        self._process.kill()
        self._process.join()

    def replay(
        self, job: ReplayJob, bag: Path, policy: Policy, on_progress: Progress
    ) -> BagResult:
        """Replay one recording, and answer what the replay asks the policy.

        Raises:
            VLAError: The recording cannot be read, or the policy cannot answer it.
        """
        from vla_core.evaluation.replay.inference import PolicyFacts

        if not self._process.is_alive():
            self._connection.close()
            self._start()
        self._is_busy = True
        order = _Order(job, bag, PolicyFacts.of(policy))
        try:
            outcome = self._serve(order, policy, on_progress)
        except (EOFError, ConnectionError):
            self._process.join()
            outcome = DatasetError(
                f"bag '{bag}' was not replayed to its end: the process that reads it ended with "
                f"status {self._process.exitcode}."
            )
        self._is_busy = False
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _serve(
        self, order: _Order, policy: Policy, on_progress: Progress
    ) -> BagResult | Exception:
        """Answer questions until there is an outcome.

        Raises:
            EOFError: The process ended.
            ConnectionError: The same.
        """
        from vla_core.evaluation.replay.inference import infer

        self._connection.send(order)
        while True:
            message = self._connection.recv()
            if isinstance(message, _Question):
                observation = self._ring.open(message.observation)
                try:
                    answer: Answer | VLAError = infer(policy, observation, message.seed)
                except VLAError as error:
                    answer = error
                self._connection.send(answer)
            elif isinstance(message, _Elapsed):
                on_progress(*message)
            else:
                outcome: BagResult | Exception = message
                return outcome

    def _start(self) -> None:
        self._connection, there = self._context.Pipe()
        self._process = self._context.Process(
            target=_work, args=(there, self._memory), name="replay", daemon=True
        )
        # To start this helper of multiprocessing unblocks the signal.
        resource_tracker.ensure_running()
        # Ctrl-C is for the process that was started by hand: it ends the other one.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        there.close()


class RemoteInference:
    """Asks the policy in the process that started this one.

    Args:
        facts: Which policy.
        connection: To that process.
        ring: Takes the observations there.
    """

    num_ahead = _NUM_AHEAD

    def __init__(self, facts: PolicyFacts, connection: Connection, ring: SharedRing) -> None:
        self.facts = facts
        self._connection = connection
        self._ring = ring
        self._num_asked = self._num_heard = 0
        self._heard: dict[int, Answer | VLAError] = {}

    def ask(self, observation: Observation, seed: int) -> PendingAnswer:
        """Send a question."""
        # Only what lies together goes through the memory; frames of a BGR camera do not.
        images = {name: np.ascontiguousarray(each) for name, each in observation.images.items()}
        parcel = self._ring.pack(replace(observation, images=images), self._hear)
        _send(self._connection, _Question(parcel, seed))
        self._num_asked += 1
        return partial(self._answer, self._num_asked)

    def end(self) -> None:
        """Hear the answers that nobody waits for any more."""
        while self._num_heard < self._num_asked:
            self._hear()

    def _answer(self, number: int) -> Answer:
        while number not in self._heard:
            self._hear()
        answer = self._heard.pop(number)
        if isinstance(answer, VLAError):
            raise answer
        return answer

    def _hear(self) -> None:
        self._num_heard += 1
        self._heard[self._num_heard] = _receive(self._connection)
        self._ring.give_back()


def can_replay_beside() -> bool:
    """Say whether a second process has a core to run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0)) > 1
    return (os.cpu_count() or 1) > 1


def _work(connection: Connection, memory: Any) -> None:
    """Replay what is ordered, until nobody is there any more."""
    # What a replay needs is loaded before there is one.
    from rosbags.typesys import Stores, get_typestore

    from vla_core.evaluation.replay import predictions_bag, runner  # noqa: F401

    get_typestore(Stores.LATEST)
    ring = SharedRing(memory)
    while True:
        order: _Order = _receive(connection)
        inference = RemoteInference(order.facts, connection, ring)
        outcome: BagResult | Exception
        try:
            outcome = runner.replay_bag(
                order.job,
                order.bag,
                lambda elapsed_s, duration_s: _send(connection, _Elapsed(elapsed_s, duration_s)),
                inference,
            )
        except VLAError as error:
            outcome = error
        except Exception as error:
            traceback.print_exc()  # which does not travel
            outcome = error
        inference.end()
        _send(connection, outcome)


def _send(connection: Connection, message: object) -> None:
    """Send, or end this process if the other one has gone."""
    try:
        connection.send(message)
    except ConnectionError:
        raise SystemExit(0) from None


def _receive(connection: Connection) -> Any:
    """Receive, or end this process if the other one has gone."""
    try:
        return connection.recv()
    except (EOFError, ConnectionError):
        raise SystemExit(0) from None
