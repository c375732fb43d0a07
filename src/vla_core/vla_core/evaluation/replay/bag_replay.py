# SPDX-License-Identifier: MIT
"""Replay one recording: at every control tick the policy answers what the robot saw.

The messages go through the buffer of the policy node; the policy is asked at every control tick
(``action.rate_hz``), as a policy that always is in time would be, without committed steps. What it
answers is compared with what the demonstrator did, and followed by the command stream.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from vla_core.evaluation.replay.limiter import Limiter, LimiterReport
from vla_core.evaluation.replay.probes import Probes
from vla_core.evaluation.replay.recorded_answers import CHUNK, find_policy_status
from vla_core.evaluation.replay.settings import ReplaySettings
from vla_core.evaluation.replay.tick_log import AnsweredTick, TickLog, small_images
from vla_core.inference.policy import Policy
from vla_core.types import ActionChunk, Observation

TickSink = Callable[[AnsweredTick], None]
"""Takes every answered tick, in order and with small images."""

Progress = Callable[[float, float], None]
"""Takes the time that was replayed and the duration of the recording, in s."""


class BagReplay:
    """Replays one recording with one policy.

    Args:
        policy: The policy.
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
        policy: Policy,
        bag: str | Path,
        settings: ReplaySettings,
        *,
        on_progress: Progress = lambda elapsed_s, duration_s: None,
        sinks: Sequence[TickSink] = (),
        span_ns: tuple[int, int] | None = None,
    ) -> None:
        self._policy = policy
        self._bag = Path(bag)
        self._settings = settings
        self._on_progress = on_progress
        self._sinks = tuple(sinks)
        self.span_ns = span_ns
        contract = policy.contract
        self._log = TickLog(policy.pipeline, contract, settings.num_worst)
        self._limiter = Limiter(contract)
        self._probes = Probes(policy, settings.other_instruction)
        self._demonstration = Demonstration(
            contract.action.dt_s,
            policy.pipeline.chunk_size,
            is_absolute=contract.action.kind == "joint_position",
        )
        self._pending: deque[AnsweredTick] = deque()
        self._stretch: tuple[int | None, int] | None = None
        self._is_start = True
        self._gaps: Counter[str] = Counter()
        self._refusals, self._lacking = Causes(), Causes()
        self._instructions: Counter[str] = Counter()
        self._num_answered = 0
        self._inference_s = self._probing_s = 0.0

    def run(self) -> BagResult:
        """Replay the recording.

        Raises:
            DatasetError: The bag cannot be read, lacks a topic, or no tick of it can be used.
            ConfigError: The settings do not fit the bag.
        """
        settings, contract = self._settings, self._policy.contract
        began = time.perf_counter()
        counts: Counter[str] = Counter()
        first_ns = 0
        with self._open() as ticks:
            recording = ticks.recording
            duration_s, notes = recording.duration_s, recording.notes
            is_run = _is_run_of_a_policy(recording, settings)
            for tick in ticks:
                first_ns = first_ns or tick.time_ns
                counts["total"] += tick.answer is None
                counts[self._take(tick)] += 1
                self._on_progress((tick.time_ns - first_ns) * 1e-9, duration_s)
                if self._is_over(tick):
                    break
            self._end_stretch()
            topics = {name: _topic_facts(part) for name, part in ticks.statistics.items()}
        self._require_answers(counts)
        worst, frames = self._log.worst()
        for moment in worst:
            moment["time_s"] = (moment["time_ns"] - first_ns) * 1e-9
        return BagResult(
            facts={
                **fingerprint(self._bag, self._policy.checkpoint_id, settings),
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
                "ages": [*contract.cameras, "state"],
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
        return BagObservations(self._bag, self._policy.contract, **self._how())

    def _how(self) -> dict[str, Any]:
        """Return how the recording is read, as keywords of ``BagObservations``."""
        settings = self._settings
        return {
            "actions": settings.actions,
            "instruction": settings.instruction,
            "instruction_topic": settings.instruction_topic,
            "episode_topic": partial(find_episode_topic, settings=settings),
            "clock": settings.clock,
            "history_length": self._policy.pipeline.history_length,
            "from_start": True,
            "strict": settings.is_strict,
        }

    def _more_facts(self) -> dict[str, Any]:
        return {}

    def _is_over(self, tick: ControlTick) -> bool:
        if self.span_ns is not None and not self._pending and tick.time_ns > self.span_ns[1]:
            return True
        most = self._settings.max_ticks
        return 0 < most <= self._num_answered

    def _take(self, tick: ControlTick) -> str:
        """Answer a tick; return what became of it, one of ``_OUTCOMES``."""
        if outcome := self._hear(tick):
            return outcome
        if self.span_ns and not self.span_ns[0] <= tick.time_ns <= self.span_ns[1]:
            return "outside"
        self._answer(tick)
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
        stretch = (tick.episode, tick.segment)
        if stretch != self._stretch:
            self._end_stretch()
            self._stretch, self._is_start = stretch, True

    def _answer(self, tick: ControlTick) -> None:
        """Have the policy answer, and judge what the command loop makes of it."""
        assert tick.observation is not None
        begin = time.perf_counter()
        chunk = self._policy.predict_chunk(tick.observation, seed=self._settings.seed)
        latency_s = time.perf_counter() - begin
        self._inference_s += latency_s
        limits = self._limiter.follow(tick.observation, chunk, tick.time_ns)
        self._keep(tick, tick.observation, chunk, latency_s, limits)

    def _keep(
        self,
        tick: ControlTick,
        observation: Observation,
        chunk: ActionChunk,
        latency_s: float,
        limits: LimiterReport,
    ) -> None:
        """Take an answer, probe the policy's senses now and then, and tell the sinks."""
        assert tick.episode is not None
        begin = time.perf_counter()
        self._probes.watch(observation, is_start=self._is_start)
        self._is_start = False
        every = self._settings.probe_every
        is_probed = every > 0 and self._num_answered % every == every // 2
        probes = self._probes.ask(observation, self._settings.seed) if is_probed else {}
        self._probing_s += time.perf_counter() - begin
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
            chunk=chunk,
            latency_s=latency_s,
            ages_s=tick.ages_s,
            limits=limits,
            recorded=tick.action,
            probes=probes,
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
