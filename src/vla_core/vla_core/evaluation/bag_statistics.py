# SPDX-License-Identifier: MIT
"""Timing and smoothness of a recorded run: what a robot's owner asks before switching it on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.evaluation.episodes import EpisodeResult
from vla_core.evaluation.metrics import Distribution
from vla_core.evaluation.recorded_run import CommandSeries, RecordedRun


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BagStatistics:
    """Samples of a recorded run, each an array over its events.

    inference_latency_s: From the start of an inference to its complete chunk.
    command_period_s: Between two ticks of the command loop while it follows chunks.
    arrival_period_s: Between two trajectories at the recorder, within one such stretch of ticks.
        Beside the period it holds what transport and the recorder's own wake-up add.
    tick_lateness_s: Delay of a tick after its deadline, over the whole run.
    camera_age_s: Age of each camera's frame when inference starts, by camera.
    joint_state_age_s: Age of the joint state when inference starts.
    chunk_age_s: Age of the observation behind the executed chunk, at every tick that follows one.
    switch_jumps: Difference between two chunks at the instant of a switch, rad or m.
    command_speeds: Speed of the fastest joint's command between two ticks, rad/s or m/s.
    limited_ticks: Ticks in which a limit changed the command.
    published_trajectories: Trajectories that were sent to the controller.
    accepted_trajectories: Trajectories that it accepted.
    rejected_trajectories: Trajectories that it rejected.
    last_rejection: Why it rejected the last one; empty if it rejected none.
    """

    inference_latency_s: NDArray[np.float64]
    command_period_s: NDArray[np.float64]
    arrival_period_s: NDArray[np.float64]
    tick_lateness_s: NDArray[np.float64]
    camera_age_s: dict[str, NDArray[np.float64]]
    joint_state_age_s: NDArray[np.float64]
    chunk_age_s: NDArray[np.float64]
    switch_jumps: NDArray[np.float64]
    command_speeds: NDArray[np.float64]
    limited_ticks: int
    published_trajectories: int
    accepted_trajectories: int
    rejected_trajectories: int
    last_rejection: str

    @property
    def superseded_trajectories(self) -> int:
        """Trajectories that a newer one replaced before the controller looked."""
        judged = self.accepted_trajectories + self.rejected_trajectories
        # A controller may report on a trajectory before the recorder has received it.
        return max(0, self.published_trajectories - judged)

    @classmethod
    def from_run(cls, run: RecordedRun) -> BagStatistics:
        """Compute the samples of a run."""
        chunks, commands = run.chunks, run.commands
        follows = commands.executing
        # The stamps are deadlines on a perfect grid; the ticks ran as late as they say.
        periods = _seconds(np.diff(commands.stamps_ns)) + np.diff(commands.lateness_s)
        return cls(
            inference_latency_s=_seconds(chunks.generation_ns - chunks.inference_start_ns),
            # A tick before or after a pause says nothing about the rate of commands.
            command_period_s=periods[follows[1:] & follows[:-1]],
            arrival_period_s=_arrival_periods(commands),
            tick_lateness_s=commands.lateness_s,
            camera_age_s={
                camera: _seconds(chunks.inference_start_ns - stamps)
                for camera, stamps in chunks.camera_ns.items()
            },
            joint_state_age_s=_seconds(chunks.inference_start_ns - chunks.joint_state_ns),
            chunk_age_s=commands.chunk_age_s[follows],
            switch_jumps=commands.switch_jumps[commands.switch_jumps != 0.0],
            command_speeds=_command_speeds(commands),
            limited_ticks=int(commands.limited.sum()),
            published_trajectories=run.published_trajectories,
            accepted_trajectories=run.accepted_trajectories,
            rejected_trajectories=run.rejected_trajectories,
            last_rejection=run.last_rejection,
        )

    def to_dict(self) -> dict[str, Any]:
        """Summarise the samples as JSON values; a distribution is None where nothing happened."""

        def summary(samples: NDArray[np.float64]) -> dict[str, Any] | None:
            distribution = Distribution.from_samples(samples)
            return distribution.to_dict() if distribution else None

        def largest(samples: NDArray[np.float64]) -> float | None:
            return float(samples.max()) if samples.size else None

        jumps = self.switch_jumps[np.isfinite(self.switch_jumps)]
        return {
            "inference_latency_s": summary(self.inference_latency_s),
            "command_period_s": summary(self.command_period_s),
            "arrival_period_s": summary(self.arrival_period_s),
            "tick_lateness_s": summary(self.tick_lateness_s),
            "camera_age_s": {name: summary(ages) for name, ages in self.camera_age_s.items()},
            "joint_state_age_s": summary(self.joint_state_age_s),
            "chunk_age_s": summary(self.chunk_age_s),
            "chunk_switches": int(jumps.size),
            "largest_switch_jump": largest(jumps),
            "largest_command_speed": largest(self.command_speeds),
            "limited_ticks": self.limited_ticks,
            "published_trajectories": self.published_trajectories,
            "superseded_trajectories": self.superseded_trajectories,
            "accepted_trajectories": self.accepted_trajectories,
            "rejected_trajectories": self.rejected_trajectories,
            "last_rejection": self.last_rejection,
        }


def find_interruptions(run: RecordedRun, episodes: Iterable[EpisodeResult]) -> dict[str, float]:
    """Return for how long, and why, the arm did not follow a chunk in the middle of an episode.

    Args:
        run: The recorded run.
        episodes: Episodes of that run.

    Returns:
        Seconds by reason, longest first; numbers in a reason are left out, so that equal causes
        count together.
    """
    commands = run.commands
    period_s = (
        float(np.median(np.diff(commands.stamps_ns))) / 1e9 if len(commands.reasons) > 1 else 0
    )
    seconds: dict[str, float] = {}
    for episode in episodes:
        first, last = np.searchsorted(
            commands.stamps_ns, (episode.start_stamp_ns, episode.end_stamp_ns)
        )
        executing = np.flatnonzero(commands.executing[first:last])
        begin = first + executing[0] if executing.size else last
        for reason in filter(None, commands.reasons[begin:last]):
            cause = re.sub(r"\d+(\.\d+)?", "...", reason)
            seconds[cause] = seconds.get(cause, 0.0) + period_s
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _arrival_periods(commands: CommandSeries) -> NDArray[np.float64]:
    """Return the intervals between trajectories that belong to one stretch of executing ticks."""
    if not commands.stamps_ns.size:
        return np.zeros(0)
    changes = np.diff(commands.executing.astype(np.int64), prepend=0)
    stretch_of_tick = np.cumsum(np.abs(changes))  # odd while executing
    ticks = np.searchsorted(commands.stamps_ns, commands.received_ns, side="right") - 1
    stretches = stretch_of_tick[np.clip(ticks, 0, None)]
    is_inside = (stretches[1:] == stretches[:-1]) & (stretches[1:] % 2 == 1)
    return _seconds(np.diff(commands.received_ns))[is_inside]


def _command_speeds(commands: CommandSeries) -> NDArray[np.float64]:
    """Return the speed of the fastest joint between each two ticks that follow a chunk, [T']."""
    follows = commands.executing[1:] & commands.executing[:-1]
    steps = np.abs(np.diff(commands.positions, axis=0)).max(axis=1, initial=0.0)
    speeds = steps[follows] / _seconds(np.diff(commands.stamps_ns)[follows])
    return speeds[np.isfinite(speeds)]


def _seconds(nanoseconds: NDArray[np.int64]) -> NDArray[np.float64]:
    return nanoseconds / 1e9
