# SPDX-License-Identifier: MIT
"""When an episode runs in a recording, and what the robot is asked to do in it."""

from __future__ import annotations

from typing import Any

from vla_core.dataset.recording import Recording
from vla_core.errors import DatasetError

_TEXT_FIELDS = ("data", "instruction", "policy_instruction")
_OPTIONS = {
    "std_msgs/msg/String": "--instruction-topic",
    "vla_msgs/msg/PolicyStatus": "--episode-topic",  # empty between two episodes
}


def instruction_options(bag: Recording, silent: str | None = None) -> list[str]:
    """Return the options by which topics of an open recording may say what the robot is to do.

    Args:
        bag: The recording.
        silent: Topic that was asked, and had not spoken yet when the robot was seen.
    """
    if silent is not None:
        return [f"--episode-topic {silent}, whose first message then begins the episode"]
    types = bag.message_types.items()
    return [f"{_OPTIONS[kind]} {topic}" for topic, kind in types if kind in _OPTIONS]


class EpisodeMark:
    """Follows the topics that mark episodes and name instructions.

    Args:
        bag: An open recording.
        episode_topic: Its message says whether an episode runs: std_msgs/Bool, or a text that is
            not empty, which is then the instruction: std_msgs/String, or a message with a field
            ``instruction`` such as vla_msgs/PolicyStatus. None: one episode from end to end.
        instruction_topic: Topic with the instruction as text.
        instruction: The instruction, whatever the topics say; None: the topics', and before
            their first message what recorder_node noted.

    Attributes:
        topics: Absolute topics to read.
        episode: Number of the running episode from 0, None between two.

    Raises:
        DatasetError: A topic is missing, or its type has neither.
    """

    def __init__(
        self,
        bag: Recording,
        episode_topic: str | None = None,
        instruction_topic: str | None = None,
        instruction: str | None = None,
    ) -> None:
        self._bag = bag
        self._episode_topic = None if episode_topic is None else bag.topic(episode_topic)
        self._instruction_topic = (
            None if instruction_topic is None else bag.topic(instruction_topic)
        )
        self._fixed = instruction
        self._text = str(bag.notes.get("instruction") or "")
        self._count = 0
        self._mark: object = False
        self.episode: int | None = 0 if episode_topic is None else None
        self.topics = {t for t in (self._episode_topic, self._instruction_topic) if t is not None}

    @property
    def instruction(self) -> str:
        """What the robot is asked to do now; empty if nothing said so."""
        return self._text if self._fixed is None else self._fixed

    def put(self, topic: str, message: Any) -> None:
        """Take a message of any topic.

        Raises:
            DatasetError: It neither is a text nor says whether an episode runs.
        """
        if topic == self._instruction_topic:
            self._text = str(self._read(topic, message))
        if topic == self._episode_topic:
            mark = self._read(topic, message)
            if isinstance(mark, str) and mark and self._instruction_topic is None:
                self._text = mark
            # Another text while an episode runs is another episode.
            if mark != self._mark:
                self.episode = self._count if mark else None
                self._count += bool(mark)
            self._mark = mark

    def _read(self, topic: str, message: Any) -> str | bool:
        for name in _TEXT_FIELDS:
            value = getattr(message, name, None)
            if isinstance(value, str):
                return value.strip()
            if isinstance(value, bool):
                return value
        raise DatasetError(
            f"bag '{self._bag.path}': {topic} carries {message.kind}, expected std_msgs/msg/Bool, "
            "std_msgs/msg/String or a message with a field 'instruction'."
        )
