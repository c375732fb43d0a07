# SPDX-License-Identifier: MIT
"""Replay one recording: at every control tick the policy answers what the robot saw.

The messages go through the buffer of the policy node; the policy is asked at every control tick
(``action.rate_hz``), as a policy that always is in time would be, without committed steps. What it
answers is compared with what the demonstrator did, and followed by the command stream. A policy in
another process is asked some ticks ahead, which changes nothing else.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from vla_core.dataset.bag_observations import BagObservations, ControlTick
from vla_core.dataset.bag_sources import COMMAND_ACTIONS
from vla_core.dataset.recording import Recording
from vla_core.errors import DatasetError
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.causes import Causes
from vla_core.evaluation.replay.demonstration import Demonstration
from vla_core.evaluation.replay.inference import Answer, Inference, PendingAnswer
from vla_core.evaluation.replay.limiter import Limiter, LimiterReport
from vla_core.evaluation.replay.probes import Probes
from vla_core.evaluation.replay.recorded_answers import CHUNK, find_policy_status
from vla_core.evaluation.replay.settings import ReplaySettings
from vla_core.evaluation.replay.tick_log import AnsweredTick, TickLog, small_images
from vla_core.types import Observation

TickSink = Callable[[AnsweredTick], None]
"""Takes every answered tick, in order and with small images."""

Progress = Callable[[float, float], None]
"""Takes the time that was replayed and the duration of the recording, in s."""


@dataclass(frozen=True, slots=True, eq=False)
class AskedTick:
    """A control tick and what the policy was asked at it.

    Attributes:
        tick: The tick.
        answer: Answer to its observation; None if nobody was asked.
        probes: Answers to the spoilt observation.
    """

    tick: ControlTick
    answer: PendingAnswer | None = None
    probes: Mapping[str, PendingAnswer] = field(default_factory=dict)


class BagReplay:
    """Replays one recording with one policy.

    Args:
        inference: The policy.
        bag: Folder of a rosbag2 recording, or one of its storage files.
        settings: How.
        on_progress: Called after every control tick with its time since the first one and the
            duration of the recording, in s.
        sinks: Take every answered tick.
        span_ns: First and last time at which the policy is asked; None: the whole recording.

    Attributes:
        span_ns: The same.
    """

    def __init__(
        self,
        inference: Inference,
        bag: str | Path,
        settings: ReplaySettings,
        *,
        on_progress: Progress = lambda elapsed_s, duration_s: None,
        sinks: Sequence[TickSink] = (),
        span_ns: tuple[int, int] | None = None,
    ) -> None:
        self._inference = inference
        self._facts = inference.facts
        self._bag = Path(bag)
        self._settings = settings
        self._on_progress = on_progress
        self._sinks = tuple(sinks)
        self.span_ns = span_ns
        contract = self._facts.contract
        self._log = TickLog(self._facts.actions, contract, settings.num_worst)
        self._limiter = Limiter(contract)
        self._probes = Probes(inference, settings)
        self._demonstration = Demonstration(
            contract.action.dt_s,
            self._facts.chunk_size,
            is_absolute=contract.action.kind == "joint_position",
        )
        self._asked: deque[AskedTick] = deque()
        self._pending: deque[AnsweredTick] = deque()
        self._stretch: tuple[int | None, int] | None = None
        self._words = ""
        self._gaps: Counter[str] = Counter()
        self._refusals, self._lacking = Causes(), Causes()
        self._instructions: Counter[str] = Counter()
        self._num_asked = self._num_answered = 0
        self._inference_s = self._probing_s = 0.0

    def run(self) -> BagResult:
        """Replay the recording.

        Raises:
            DatasetError: The bag cannot be read, lacks a topic, or no tick of it can be used.
            ConfigError: The settings do not fit the bag.
        """
        began = time.perf_counter()
        counts: Counter[str] = Counter()
        first_ns = 0
        with self._open() as ticks:
            recording = ticks.recording
            duration_s, notes = recording.duration_s, recording.notes
            is_run = _is_run_of_a_policy(recording, self._settings)
            for tick in ticks:
                first_ns = first_ns or tick.time_ns
                counts["total"] += tick.answer is None
                self._asked.append(self._ask(tick))
                if len(self._asked) > self._inference.num_ahead:
                    counts[self._take(self._asked.popleft())] += 1
                self._on_progress((tick.time_ns - first_ns) * 1e-9, duration_s)
                if self._is_over(tick):
                    break
            while self._asked:
                counts[self._take(self._asked.popleft())] += 1
            self._end_stretch()
            topics = {name: _topic_facts(part) for name, part in ticks.statistics.items()}
        self._require_answers(counts)
        worst, frames = self._log.worst()
        for moment in worst:
            moment["time_s"] = (moment["time_ns"] - first_ns) * 1e-9
        return BagResult(
            facts={
                **fingerprint(self._bag, self._facts.checkpoint_id, self._settings),
                "duration_s": duration_s,
                "success": notes.get("success"),
                "is_run_of_a_policy": is_run,
                "start_ns": first_ns,
                "ticks": {name: counts[name] for name in ("total", *_OUTCOMES)},
                "gaps": dict(self._gaps),
                "lacking": self._lacking.counts(),
                "refusals": self._refusals.counts(),
                "instructions": dict(self._instructions),
                "topics": topics,
                "worst": worst,
                "ages": [*self._facts.contract.cameras, "state"],
                "wall_s": time.perf_counter() - began,
                "inference_s": self._inference_s,
                "probing_s": self._probing_s,
                **self._more_facts(),
            },
            ticks=self._log.ticks(),
            horizon=self._log.horizon(),
            probes=self._log.probes(),
            frames=frames,
        )

    def _open(self) -> BagObservations:
        return BagObservations(self._bag, self._facts.contract, **self._how())

    def _how(self) -> dict[str, Any]:
        """Return how the recording is read, as keywords of ``BagObservations``."""
        settings = self._settings
        return {
            "actions": settings.actions,
            "instruction": settings.instruction,
            "instruction_topic": settings.instruction_topic,
            "episode_topic": partial(find_episode_topic, settings=settings),
            "clock": settings.clock,
            "history_length": self._facts.history_length,
            "from_start": True,
            "strict": settings.is_strict,
        }

    def _more_facts(self) -> dict[str, Any]:
        return {}

    def _is_over(self, tick: ControlTick) -> bool:
        is_waiting = self._asked or self._pending
        if self.span_ns is not None and not is_waiting and tick.time_ns > self.span_ns[1]:
            return True
        most = self._settings.max_ticks
        return 0 < most <= self._num_asked

    def _ask(self, tick: ControlTick) -> AskedTick:
        """Ask the policy at a tick, where it is to be asked."""
        observation = tick.observation
        is_within = not self.span_ns or self.span_ns[0] <= tick.time_ns <= self.span_ns[1]
        if observation is None or tick.episode is None or not is_within:
            return AskedTick(tick)
        if not observation.instruction:
            return AskedTick(tick)
        self._num_asked += 1
        answer = self._inference.ask(observation, self._settings.seed)
        return AskedTick(tick, answer, self._probes.see(observation, _stretch_of(tick)))

    def _take(self, asked: AskedTick) -> str:
        """Judge the answer to a tick; return what became of it, one of ``_OUTCOMES``."""
        if outcome := self._hear(asked.tick):
            return outcome
        if asked.answer is None:
            return "outside"
        tick = asked.tick
        assert tick.observation is not None
        answer = asked.answer()
        self._inference_s += answer.latency_s
        limits = self._limiter.follow(tick.observation, answer.chunk, tick.time_ns)
        self._keep(tick, tick.observation, answer, limits, asked.probes)
        return "answered"

    def _hear(self, tick: ControlTick) -> str:
        """Learn what the demonstrator did, and compare the answers about which enough is known.

        Returns:
            Why nobody is asked at this tick; empty if the policy may be.
        """
        self._enter(tick)
        if tick.episode is None:
            return "outside"
        if tick.observation is None:
            assert tick.gap is not None
            self._gaps[f"{tick.gap.source}: {tick.gap.cause.value}"] += 1
            return "gap"
        if not tick.observation.instruction:
            return "without_instruction"
        if tick.action is None:
            self._lacking.add(tick.lacking)
        self._demonstration.put(tick.observation.stamp_ns, tick.action)
        while self._pending and self._demonstration.covers(self._pending[0].chunk):
            self._compare(self._pending.popleft())
        return ""

    def _enter(self, tick: ControlTick) -> None:
        """Notice that another unbroken stretch begins."""
        stretch = _stretch_of(tick)
        words = self._words if tick.observation is None else tick.observation.instruction
        # A chunk for one instruction is not judged by what was done for the next.
        if (stretch, words) != (self._stretch, self._words):
            self._end_stretch()
            self._stretch, self._words = stretch, words

    def _keep(
        self,
        tick: ControlTick,
        observation: Observation,
        answer: Answer,
        limits: LimiterReport,
        probes: Mapping[str, PendingAnswer],
    ) -> None:
        """Take an answer and those to the spoilt observation, and tell the sinks."""
        assert tick.episode is not None
        probed = {name: pending() for name, pending in probes.items()}
        self._probing_s += sum(probe.latency_s for probe in probed.values())
        if limits.refusal:
            self._refusals.add(limits.refusal)
        self._num_answered += 1
        self._instructions[observation.instruction] += 1
        # What waits for the demonstrator must not hold frames of full size, nor history.
        seen = replace(observation, images=small_images(observation), history=())
        answered = AnsweredTick(
            time_ns=tick.time_ns,
            episode=tick.episode,
            observation=seen,
            chunk=answer.chunk,
            latency_s=answer.latency_s,
            ages_s=tick.ages_s,
            limits=limits,
            recorded=tick.action,
            probes={name: probe.chunk for name, probe in probed.items()},
        )
        self._pending.append(answered)
        for sink in self._sinks:
            sink(answered)

    def _compare(self, tick: AnsweredTick) -> None:
        self._log.add(tick, self._demonstration.actions_for(tick.chunk))

    def _end_stretch(self) -> None:
        """Compare what waits with what is known: the demonstrator does nothing more."""
        while self._pending:
            self._compare(self._pending.popleft())
        self._demonstration.clear()
        self._limiter.restart()

    def _require_answers(self, counts: Counter[str]) -> None:
        if self._log.num_ticks and self._log.horizon()["count"].any():
            return
        name = f"bag '{self._bag}'"
        if counts["without_instruction"]:
            raise DatasetError(
                f"{name} says nowhere what the robot was asked to do; give --instruction, or "
                "--instruction-topic."
            )
        if self._num_answered:
            why = "; ".join(self._lacking.counts()) or "it is shorter than one step of a chunk"
            raise DatasetError(f"{name} holds nothing to compare the policy with: {why}")
        gaps = "; ".join(self._gaps) or "it holds no frame of the reference camera in an episode"
        raise DatasetError(
            f"{name} has no control tick with an observation, {counts['total']} were tried: "
            f"{gaps}."
        )


_OUTCOMES = ("answered", "gap", "outside", "without_instruction")


def _stretch_of(tick: ControlTick) -> tuple[int | None, int]:
    return tick.episode, tick.segment


def fingerprint(bag: Path, checkpoint_id: str, settings: ReplaySettings) -> dict[str, Any]:
    """Return what a result depends on, as JSON values.

    Raises:
        DatasetError: There is no such bag.
    """
    if not bag.exists():
        raise DatasetError(f"bag '{bag}' does not exist; give a rosbag2 folder or a storage file.")
    files = sorted(bag.iterdir()) if bag.is_dir() else [bag]
    return {
        "bag": str(bag),
        "bag_bytes": sum(file.stat().st_size for file in files if file.is_file()),
        "checkpoint_id": checkpoint_id,
        "settings": settings.to_dict(),
    }


def find_episode_topic(recording: Recording, settings: ReplaySettings) -> str | None:
    """Return the topic that marks episodes: the given one, or that of a policy's status."""
    if settings.episode_topic or settings.instruction or settings.instruction_topic:
        return settings.episode_topic
    if recording.notes.get("instruction"):
        return None
    return find_policy_status(recording)


def _is_run_of_a_policy(recording: Recording, settings: ReplaySettings) -> bool:
    """Tell whether what the recording commands comes from a policy, not from a demonstrator."""
    is_commanded = settings.actions == COMMAND_ACTIONS
    return is_commanded and CHUNK in recording.message_types.values()


def _topic_facts(statistics: Any) -> dict[str, Any]:
    rate_hz = statistics.rate_hz
    return {
        "count": statistics.count,
        "rate_hz": None if rate_hz != rate_hz else rate_hz,
        "dropped": statistics.num_dropped,
        "stalls": statistics.num_stalls,
        "longest_s": statistics.longest_s,
        "unordered": statistics.num_unordered,
    }
