# SPDX-License-Identifier: MIT
"""Observations of a recording, one per control tick, made by the code of the policy node.

The messages go through the node's own buffer at the times at which they were recorded, and the
ticks wait for frames as the node does. Memory does not grow with the bag.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vla_core.dataset.bag_marks import EpisodeMark
from vla_core.dataset.bag_sources import COMMAND_ACTIONS, BagSources, find_sources
from vla_core.dataset.recording import Recording
from vla_core.dataset.tick_timer import TickTimer
from vla_core.dataset.topic_statistics import TopicStatistics
from vla_core.errors import ConfigError, DatasetError, MessageError
from vla_core.processing.contract import RobotContract
from vla_core.processing.gaps import Gap, GapCause
from vla_core.processing.messages import stamp_or_none
from vla_core.types import Observation

CLOCKS = ("received", "stamp")

_LONGEST_JUMP_BACK_NS = 500_000_000
_LONGEST_JUMP_AHEAD_NS = 3600 * 1_000_000_000
_LARGEST_CLOCK_DIFFERENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlTick:
    """One instant at which the policy node would have begun an inference.

    Attributes:
        time_ns: The instant, on the clock of the stamps.
        observation: What the node would have given to the policy; None: ``gap`` says why.
        gap: Why there is no observation.
        action: What the demonstrator did on it, in robot units and in the order of
            ``RobotContract.action_names``, float64 [A]; the target to be reached one step after
            ``observation.stamp_ns``. None: ``lacking`` says why.
        lacking: Why there is no action.
        episode: Number of the running episode from 0, by the episode topic; None between two.
            Without such a topic always 0.
        segment: Grows where the clock was set back.
        answer: What a policy answered to this observation when it was recorded; None for a control
            tick.
    """

    time_ns: int
    observation: Observation | None
    gap: Gap | None
    action: NDArray[np.float64] | None
    lacking: str
    episode: int | None
    segment: int
    answer: object = None

    @property
    def ages_s(self) -> dict[str, float]:
        """Age of every camera's frame and of ``state`` at the tick, in s; empty with a gap."""
        if self.observation is None:
            return {}
        stamps = {**self.observation.image_stamps_ns, "state": self.observation.state_stamp_ns}
        return {name: (self.time_ns - stamp) * 1e-9 for name, stamp in stamps.items()}


@dataclass(frozen=True, slots=True, eq=False)
class PendingTick:
    """A tick whose action is not known yet; the fields are those of ``ControlTick``."""

    time_ns: int
    observation: Observation | Gap
    episode: int | None
    answer: object = None

    @property
    def observed_ns(self) -> int:
        """Time for which the action is asked."""
        if isinstance(self.observation, Gap):
            return self.time_ns
        return self.observation.stamp_ns


class BagObservations:
    """The control ticks of one recording; iterate once, in a `with` statement.

    Args:
        path: Folder of a rosbag2 recording, or one of its storage files.
        contract: The robot; its topics are found in any namespace.
        actions: Where the demonstrator's targets come from; see ``bag_sources.find_sources``.
        instruction: What the robot is asked to do; None: what ``instruction_topic`` said last,
            or what recorder_node noted for the episode.
        instruction_topic: Topic with a text or with a field ``instruction``.
        episode_topic: Topic that tells when an episode runs, see ``EpisodeMark``, or what finds it
            in the open recording.
        clock: ``received``: time is that of the recorder. ``stamp``: that of the stamps, for
            bags whose recorder had another clock, as in a simulation.
        history_length: Earlier steps of an observation.
        frame_wait_s: Longest wait of a tick for a new frame of the first camera, at most a step.
        camera_wait_s: Longest wait for the other cameras after that.
        camera_skew_s: How much older their frames may be.
        from_start: Whether ticks begin with the recording, and not with the first frame of the
            first camera: it then counts as gaps that it started late.
        strict: A message that cannot be used, or a clock that goes back, is an error. Otherwise
            it makes a gap, or a new segment.

    Raises:
        ConfigError: ``clock`` is unknown.
        DatasetError: The bag cannot be read, or lacks a topic.
    """

    def __init__(
        self,
        path: str | Path,
        contract: RobotContract,
        *,
        actions: Sequence[str] = COMMAND_ACTIONS,
        instruction: str | None = None,
        instruction_topic: str | None = None,
        episode_topic: str | Callable[[Recording], str | None] | None = None,
        clock: str = "received",
        history_length: int = 0,
        frame_wait_s: float = 0.1,
        camera_wait_s: float = 0.02,
        camera_skew_s: float = 0.005,
        from_start: bool = False,
        strict: bool = True,
    ) -> None:
        if clock not in CLOCKS:
            raise ConfigError(f"clock must be one of {', '.join(CLOCKS)}, got '{clock}'.")
        self.recording = Recording(path)
        self.statistics: dict[str, TopicStatistics] = {}
        self._contract = contract
        self._action_names = tuple(actions)
        self._instruction = instruction
        self._instruction_topic = instruction_topic
        self._episode_topic = episode_topic
        self._clock = clock
        self._history_length = history_length
        step_ns = round(contract.action.dt_s * 1e9)
        waits_ns = (round(wait_s * 1e9) for wait_s in (frame_wait_s, camera_wait_s))
        self._timer = TickTimer(step_ns, *waits_ns, from_start=from_start)
        self._camera_skew_s = camera_skew_s
        self._strict = strict
        self._settle_ns = step_ns + round(contract.state.max_age_s * 1e9)
        self._segment = 0
        self._now_ns = 0
        self._newest_ns: dict[str, int] = {}
        self._pending: deque[PendingTick] = deque()

    def __enter__(self) -> BagObservations:
        """Open the bag and find its topics."""
        self.recording.__enter__()
        try:
            self._sources: BagSources = find_sources(
                self.recording, self._contract, self._action_names, self._history_length
            )
            episode_topic = self._episode_topic
            if callable(episode_topic):
                episode_topic = episode_topic(self.recording)
            self._mark = EpisodeMark(
                self.recording, episode_topic, self._instruction_topic, self._instruction
            )
        except BaseException:
            self.recording.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the bag."""
        self.recording.__exit__(exception_type, exception, traceback)

    def __iter__(self) -> Iterator[ControlTick]:
        """Yield one tick after the other.

        Raises:
            DatasetError: The bag is damaged or, if strict, a message cannot be used.
        """
        handlers = self._sources.handlers
        topics = sorted({*handlers, *self._mark.topics})
        self.statistics.update({topic: TopicStatistics() for topic in topics})
        for topic, received_ns, message in self.recording.lazy_messages(*self.statistics):
            stamp_ns = stamp_or_none(message)
            self.statistics[topic].add(received_ns, stamp_ns)
            at_ns = self._now_ns if self._clock == "stamp" else received_ns
            at_ns = at_ns if stamp_ns is None else stamp_ns
            if self._goes_back(topic, received_ns, at_ns):
                yield from self._settled(self._now_ns)
                self._begin_segment()
            self._follow_clock(topic, received_ns, at_ns)
            self._before_arrival()
            try:
                for handler in handlers.get(topic, ()):
                    handler(message, self._now_ns)
                self._mark.put(topic, message)
            except MessageError as error:
                self._complain(f"{topic}: {error}")
            self._after_arrival(topic)
            settled_ns = self._now_ns - self._settle_ns
            if self._pending and self._pending[0].observed_ns <= settled_ns:
                yield from self._settled(settled_ns)
        self._after_last_arrival()
        yield from self._settled(self._now_ns)

    def _before_arrival(self) -> None:
        """Make the observations that were due before the message that arrives now."""
        while (at_ns := self._timer.pass_time(self._now_ns, self._is_aligned)) is not None:
            self._observe(at_ns)

    def _after_arrival(self, topic: str) -> None:
        """Make the observation that waited for a message of this topic, if one did."""
        if topic == self._sources.reference_topic:
            self._timer.see_reference(self._now_ns)
        if (at_ns := self._timer.see_arrival(self._now_ns, self._is_aligned)) is not None:
            self._observe(at_ns)

    def _after_last_arrival(self) -> None:
        """Make the observation that still waited."""
        if (at_ns := self._timer.end(self._now_ns)) is not None:
            self._observe(at_ns)

    def _goes_back(self, topic: str, received_ns: int, at_ns: int) -> bool:
        """Say whether the clock was set back since the last message of a topic."""
        previous_ns = self._newest_ns.get(topic)
        if previous_ns is None or at_ns >= previous_ns - _LONGEST_JUMP_BACK_NS:
            return False
        self._complain(
            f"the clock of {topic} goes back by {(previous_ns - at_ns) / 1e9:.3f} s at "
            f"{received_ns / 1e9:.3f} s of the recorder's clock; cut the bag there, or have "
            "what spoils an episode skipped (--lenient of `vla replay`, --skip-bad of `vla "
            "dataset from-bag`)"
        )
        return True

    def _begin_segment(self) -> None:
        self._sources.buffer.clear()
        self._sources.actions.clear()
        self._timer.restart()
        self._newest_ns.clear()
        self._segment += 1
        self._now_ns = 0

    def _follow_clock(self, topic: str, received_ns: int, at_ns: int) -> None:
        """Set the time to that of a message."""
        if self._clock == "received" and self.statistics[topic].count == 1:
            self._compare_clocks(topic, received_ns, at_ns)
        previous_ns = self._newest_ns.get(topic, at_ns)
        if at_ns > previous_ns + _LONGEST_JUMP_AHEAD_NS:
            raise self._error(
                f"the clock of {topic} jumps ahead by {(at_ns - previous_ns) / 1e9:.0f} s at "
                f"{received_ns / 1e9:.3f} s of the recorder's clock; cut the bag there"
            )
        if at_ns:
            # By the clock of the stamps there is no time before the first one.
            self._newest_ns[topic] = at_ns
        self._now_ns = max(self._now_ns, received_ns if self._clock == "received" else at_ns)

    def _compare_clocks(self, topic: str, received_ns: int, stamp_ns: int) -> None:
        delay_s = (received_ns - stamp_ns) * 1e-9
        if abs(delay_s) > _LARGEST_CLOCK_DIFFERENCE_S:
            raise self._error(
                f"the first message of {topic} was received {delay_s:.0f} s after its stamp: "
                "recorder and robot had different clocks; read the bag by the clock of its "
                "stamps (--clock stamp)"
            )

    def _is_aligned(self) -> bool:
        return self._sources.buffer.is_aligned(self._camera_skew_s)

    def _observe(self, at_ns: int) -> None:
        """Make the observation of a tick; its action is known later."""
        try:
            observation = self._sources.buffer.observe(self._mark.instruction, at_ns)
        except MessageError as error:
            observation = Gap("messages", GapCause.BROKEN, str(error))
        if isinstance(observation, Gap) and observation.cause is GapCause.BROKEN:
            self._complain(observation.reason.rstrip("."))
        self._pending.append(PendingTick(at_ns, observation, self._mark.episode))

    def _settled(self, until_ns: int) -> Iterator[ControlTick]:
        """Yield the ticks that were observed until a time, with their actions."""
        while self._pending and self._pending[0].observed_ns <= until_ns:
            tick = self._pending.popleft()
            gap = tick.observation if isinstance(tick.observation, Gap) else None
            action, lacking = None, "" if gap is None else gap.reason
            if gap is None:
                try:
                    action = self._sources.actions.action(tick.observed_ns)
                except MessageError as error:
                    lacking = str(error)
            yield ControlTick(
                time_ns=tick.time_ns,
                observation=None if isinstance(tick.observation, Gap) else tick.observation,
                gap=gap,
                action=action,
                lacking=lacking,
                episode=tick.episode,
                segment=self._segment,
                answer=tick.answer,
            )

    def _complain(self, what: str) -> None:
        if self._strict:
            raise self._error(what)

    def _error(self, what: str) -> DatasetError:
        return DatasetError(f"bag '{self.recording.path}': {what}.")
