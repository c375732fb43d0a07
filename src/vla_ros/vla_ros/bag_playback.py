# SPDX-License-Identifier: MIT
"""What of a recording is played, on which topics and when; ROS comes in ``player_node``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_core.dataset.bag_observations import CLOCKS
from vla_core.dataset.recording import Recording
from vla_core.errors import ConfigError, DatasetError
from vla_core.processing.contract import RobotContract
from vla_core.processing.messages import stamp_or_none


@dataclass(frozen=True, slots=True)
class PlayedMessage:
    """One message that is due.

    Attributes:
        at_ns: When, on the clock of the playback.
        topic: Absolute topic in the recording.
        data: The serialised message.
    """

    at_ns: int
    topic: str
    data: bytes


class BagPlayback:
    """The messages of a recording in order, each with the time at which it is due.

    Args:
        recording: An open recording.
        topics: Absolute topics to play.
        clock: ``received``: time is that of the recorder. ``stamp``: that of the messages' stamps.
        start_s: How much of the beginning is left out.
        duration_s: How much is played; 0 for all.

    Attributes:
        start_ns: First time.
        stop_ns: Time after which nothing is played.

    Raises:
        ConfigError: The clock is unknown.
        DatasetError: There is no message to play.
    """

    def __init__(
        self,
        recording: Recording,
        topics: list[str],
        *,
        clock: str = "received",
        start_s: float = 0.0,
        duration_s: float = 0.0,
    ) -> None:
        if clock not in CLOCKS:
            raise ConfigError(f"clock must be one of {', '.join(CLOCKS)}, got '{clock}'.")
        self._recording = recording
        self._topics = topics
        self._is_stamped = clock == "stamp"
        self.start_ns, self.stop_ns = 0, 1 << 62
        first = next(iter(self), None)
        if first is None:
            raise DatasetError(f"bag '{recording.path}' has no message on {', '.join(topics)}.")
        self.start_ns = first.at_ns + round(start_s * 1e9)
        if duration_s:
            self.stop_ns = self.start_ns + round(duration_s * 1e9)

    def __iter__(self) -> Iterator[PlayedMessage]:
        """Yield the messages.

        Raises:
            DatasetError: The recording is damaged.
        """
        at_ns = 0
        for topic, received_ns, message in self._recording.lazy_messages(*self._topics):
            stamp_ns = stamp_or_none(message) if self._is_stamped else received_ns
            # By the clock of the stamps there is no time before the first one.
            at_ns = max(at_ns, stamp_ns or 0)
            if at_ns > self.stop_ns:
                return
            if at_ns >= max(self.start_ns, 1):
                yield PlayedMessage(at_ns, topic, bytes(message.serialized))


def observed_topics(recording: Recording, contract: RobotContract) -> dict[str, str]:
    """Return what a robot's nodes hear of a recording: relative topic by absolute recorded one.

    Raises:
        DatasetError: A topic is missing, or recorded in more than one namespace.
    """
    names = [camera.topic for camera in contract.cameras.values()]
    names += [*contract.state.topics, *(part.topic for part in contract.inputs.values())]
    found = {recording.topic(name): name for name in names}
    deadman = contract.safety.deadman_topic
    if deadman and len(recorded := recording.find_topics(deadman)) == 1:
        found[recorded[0]] = deadman
    return found


def read_observed_topics(bag: Path, contract: RobotContract) -> dict[str, str]:
    """Return the same of a recording that is not open.

    Raises:
        DatasetError: The recording cannot be read, or a topic is missing.
    """
    with Recording(bag) as recording:
        return observed_topics(recording, contract)
