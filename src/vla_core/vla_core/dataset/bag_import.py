# SPDX-License-Identifier: MIT
"""Turn recordings into the episodes of a dataset, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_core.dataset.bag_marks import instruction_options
from vla_core.dataset.bag_observations import BagObservations, ControlTick
from vla_core.dataset.format import ACTION, IMAGE_PREFIX, STATE, Feature
from vla_core.dataset.recording import Recording
from vla_core.dataset.staging import StagedEpisode
from vla_core.dataset.topic_statistics import TopicStatistics
from vla_core.dataset.writer import EpisodeWriter
from vla_core.errors import DatasetError
from vla_core.processing.contract import RobotContract

AGES = "sample_age_s"
"""Column with the age of every camera's frame and of the state at each frame, in s."""

EPISODE_MODES = ("bag", "gaps", "topic")


@dataclass(frozen=True, kw_only=True)
class ImportedEpisode:
    """What became of one episode.

    Attributes:
        bag: Its recording.
        start_ns: Time of its first frame.
        num_frames: Frames.
        task: The instruction.
        left_out: Why it is not in the dataset; empty if it is.
    """

    bag: Path
    start_ns: int
    num_frames: int
    task: str
    left_out: str = ""


@dataclass(kw_only=True)
class ImportReport:
    """What an import found.

    Attributes:
        episodes: All episodes, in order.
        topics: Regularity of every topic, by recording.
    """

    episodes: list[ImportedEpisode] = field(default_factory=list)
    topics: dict[Path, dict[str, TopicStatistics]] = field(default_factory=dict)

    @property
    def num_written(self) -> int:
        """Episodes that are in the dataset."""
        return sum(not episode.left_out for episode in self.episodes)


def age_feature(contract: RobotContract) -> Feature:
    """Return the feature of the column ``AGES``."""
    names = (*contract.cameras, "state")
    return Feature("float32", (len(names),), names)


class BagImporter:
    """Writes the episodes of recordings.

    Args:
        writer: Where they go; its columns are those of the contract and ``AGES``.
        contract: The robot.
        episodes: ``bag``: one per recording. ``gaps``: one per stretch in which nothing was
            lacking. ``topic``: as the episode topic marks them. Another instruction begins
            another episode in every mode.
        skip_bad: Leave out episodes in which something is wrong, and say so, instead of stopping.
        only_successes: Leave out episodes that recorder_node noted as failed or not judged.
        min_frames: Shorter episodes are left out.
        reading: Further arguments of ``BagObservations``.

    Attributes:
        report: What was found so far.
    """

    def __init__(
        self,
        writer: EpisodeWriter,
        contract: RobotContract,
        *,
        episodes: str = "bag",
        skip_bad: bool = False,
        only_successes: bool = False,
        min_frames: int = 2,
        **reading: Any,
    ) -> None:
        if episodes not in EPISODE_MODES:
            raise DatasetError(
                f"episodes must be one of {', '.join(EPISODE_MODES)}, got '{episodes}'."
            )
        if (episodes == "topic") != (reading.get("episode_topic") is not None):
            raise DatasetError("episodes by 'topic' and an episode topic need each other.")
        self.report = ImportReport()
        self._writer = writer
        self._contract = contract
        self._splits_at_gaps = episodes == "gaps"
        self._skip_bad = skip_bad
        self._only_successes = only_successes
        self._min_frames = min_frames
        self._reading = reading
        self._written = {
            (facts.get("bag"), facts.get("start_ns")) for facts in writer.staged_metadata()
        }

    def add(self, bag: Path, on_tick: Callable[[], None] = lambda: None) -> None:
        """Write the episodes of one recording.

        Args:
            bag: The recording.
            on_tick: Called at every control tick of it.

        Raises:
            DatasetError: The recording or an episode cannot be used, and bad ones are not
                skipped.
        """
        try:
            self._add(bag, on_tick)
        except DatasetError as error:
            if not self._skip_bad:
                raise
            self.report.episodes.append(
                ImportedEpisode(bag=bag, start_ns=0, num_frames=0, task="", left_out=str(error))
            )

    def _add(self, bag: Path, on_tick: Callable[[], None]) -> None:
        current: _OpenEpisode | None = None
        with BagObservations(
            bag, self._contract, strict=not self._skip_bad, **self._reading
        ) as reader:
            success = reader.recording.notes.get("success")
            self.report.topics[bag] = reader.statistics
            try:
                for tick in reader:
                    on_tick()
                    if current is not None and not current.goes_on(tick):
                        self._end(current, success)
                        current = None
                    if tick.episode is None:
                        continue
                    if tick.observation is None or tick.action is None:
                        if current is not None:
                            current.hole.append(tick.lacking)
                        continue
                    if current is not None and current.hole:
                        current = self._after_hole(current, tick, success)
                    current = current or self._begin(reader.recording, bag, tick)
                    self._add_frame(current, tick)
                if current is not None:
                    self._end(current, success)
            except BaseException:
                if current is not None and current.staged is not None:
                    current.staged.discard()
                raise

    def _begin(self, recording: Recording, bag: Path, tick: ControlTick) -> _OpenEpisode:
        assert tick.observation is not None
        if not tick.observation.instruction:
            asked = self._reading.get("instruction_topic")
            ways = ("--instruction TEXT", *instruction_options(recording, asked))
            raise DatasetError(
                f"bag '{bag}' says nothing of an instruction when its episode begins"
                f"{f', nor does {asked} by then' if asked else ''}; give {' or '.join(ways)}."
            )
        is_known = (str(bag), tick.time_ns) in self._written
        staged = None if is_known else self._writer.begin_episode()
        return _OpenEpisode(bag=bag, first=tick, staged=staged)

    def _add_frame(self, episode: _OpenEpisode, tick: ControlTick) -> None:
        assert tick.observation is not None
        assert tick.action is not None
        episode.num_frames += 1
        if episode.staged is None or episode.problem:
            return
        ages = tick.ages_s
        values = {
            STATE: tick.observation.state,
            ACTION: tick.action,
            AGES: np.array([ages[name] for name in (*self._contract.cameras, "state")]),
        }
        for name, frame in tick.observation.images.items():
            values[f"{IMAGE_PREFIX}{name}"] = frame
        episode.staged.add_frame(values)

    def _after_hole(
        self, episode: _OpenEpisode, tick: ControlTick, success: bool | None
    ) -> _OpenEpisode | None:
        """Return the episode with a hole that was just passed; None: it ends before the hole."""
        if self._splits_at_gaps:
            self._end(episode, success)
            return None
        seconds = len(episode.hole) * self._contract.action.dt_s
        at_s = (tick.time_ns - episode.first.time_ns) * 1e-9 - seconds
        episode.problem = episode.problem or (
            f"nothing for {seconds:.1f} s from {at_s:.1f} s on: {episode.hole[0]}"
        )
        episode.hole.clear()
        return episode

    def _end(self, episode: _OpenEpisode, success: bool | None) -> None:
        task = episode.task
        left_out = episode.problem
        if left_out and not self._skip_bad:
            start_s = episode.first.time_ns * 1e-9
            raise DatasetError(
                f"bag '{episode.bag}', episode at {start_s:.3f} s ('{task}'): {left_out} Leave "
                "such episodes out with --skip-bad, or split them there with --episodes gaps."
            )
        if episode.num_frames < self._min_frames:
            left_out = left_out or f"only {episode.num_frames} frames"
        if self._only_successes and success is not True:
            left_out = left_out or ("failed" if success is False else "its success is not noted")
        if episode.staged is not None and left_out:
            episode.staged.discard()
        elif episode.staged is not None:
            facts: dict[str, Any] = {
                "bag": str(episode.bag),
                "start_ns": episode.first.time_ns,
            }
            if success is not None:
                facts["success"] = success
            episode.staged.finish(task, facts)
        self.report.episodes.append(
            ImportedEpisode(
                bag=episode.bag,
                start_ns=episode.first.time_ns,
                num_frames=episode.num_frames,
                task=task,
                left_out=left_out,
            )
        )


@dataclass(kw_only=True)
class _OpenEpisode:
    """An episode that is being read; ``staged`` is None if it was written before."""

    bag: Path
    first: ControlTick
    staged: StagedEpisode | None
    num_frames: int = 0
    problem: str = ""
    hole: list[str] = field(default_factory=list)

    @property
    def task(self) -> str:
        assert self.first.observation is not None
        return self.first.observation.instruction

    def goes_on(self, tick: ControlTick) -> bool:
        """Return whether a tick belongs to the episode."""
        if (tick.episode, tick.segment) != (self.first.episode, self.first.segment):
            return False
        return tick.observation is None or tick.observation.instruction == self.task


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """Return the recordings at paths; a folder of recordings stands for all of them.

    Raises:
        DatasetError: There is none.
    """
    found: list[Path] = []
    for path in paths:
        inner = sorted(path.glob("*/metadata.yaml")) if path.is_dir() else []
        is_bag = not path.is_dir() or (path / "metadata.yaml").is_file() or not inner
        found += [path] if is_bag else [file.parent for file in inner]
    missing = [path for path in found if not path.exists()]
    if missing or not found:
        raise DatasetError(f"there is no bag at {', '.join(map(str, missing or paths))}.")
    return found
