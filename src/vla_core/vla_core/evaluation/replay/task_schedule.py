# SPDX-License-Identifier: MIT
"""When a recording asks the robot for what, to be asked again while it is played."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vla_core.dataset.bag_marks import EpisodeMark
from vla_core.dataset.recording import Recording
from vla_core.errors import DatasetError
from vla_core.evaluation.replay.bag_replay import find_episode_topic
from vla_core.evaluation.replay.settings import ReplaySettings
from vla_core.processing.contract import RobotContract
from vla_core.processing.messages import stamp_or_none


@dataclass(frozen=True, slots=True)
class Task:
    """What the robot is asked from a time on.

    Attributes:
        start_ns: The time, on the clock of the replay.
        instruction: Empty between two episodes.
    """

    start_ns: int
    instruction: str


def read_tasks(bag: Path, settings: ReplaySettings, contract: RobotContract) -> list[Task]:
    """Return the tasks of a recording in order, the first one from time 0.

    Args:
        bag: The recording.
        settings: How it is read.
        contract: The robot, whose joint states tell the time where the clock is that of stamps.

    Raises:
        DatasetError: The recording cannot be read, or says nowhere what the robot shall do.
    """
    is_stamped = settings.clock == "stamp"
    with Recording(bag) as recording:
        episode_topic = find_episode_topic(recording, settings)
        mark = EpisodeMark(
            recording, episode_topic, settings.instruction_topic, settings.instruction
        )
        topics = set(mark.topics)
        if is_stamped and topics:
            topics |= {recording.topic(name) for name in contract.state.topics}
        tasks = [Task(0, _asked(mark))]
        now_ns = 0
        for topic, received_ns, message in recording.lazy_messages(*topics):
            at_ns = (stamp_or_none(message) or 0) if is_stamped else received_ns
            now_ns = max(now_ns, at_ns)
            if topic not in mark.topics:
                continue
            mark.put(topic, message)
            if _asked(mark) != tasks[-1].instruction:
                tasks.append(Task(now_ns, _asked(mark)))
    if not any(task.instruction for task in tasks):
        raise DatasetError(
            f"bag '{bag}' says nowhere what the robot was asked to do; give an instruction, or "
            "the topic that has it."
        )
    return tasks


def _asked(mark: EpisodeMark) -> str:
    return "" if mark.episode is None else mark.instruction
