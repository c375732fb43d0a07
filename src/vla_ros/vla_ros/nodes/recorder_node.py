# SPDX-License-Identifier: MIT
"""Record topics into MCAP bags: a run as a whole, episodes by service, no message lost.

Serialised messages are polled and written as they are, with the times at which they were received.
Where the middleware numbers the messages of a publisher, gaps are counted as lost. Before the disk
is full the bags are closed in order.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vla_msgs.srv import StartEpisode, StopEpisode

from vla_core.errors import ConfigError, VLAError
from vla_ros.diagnostics import DiagnosticLevel, DiagnosticReport, Diagnostics
from vla_ros.node_main import run_node
from vla_ros.parameters import RecorderParameters
from vla_ros.polled_subscription import Periodic
from vla_ros.recorded_topics import (
    ReceivedMessage,
    RecordedTopic,
    RecordedTopics,
    require_types,
)
from vla_ros.recording import Recording
from vla_ros.ticking_node import TickingNode


class RecorderNode(TickingNode[RecorderParameters]):
    """Writes every message of its topics into the bags that are open, while it is active.

    One bag is open as long as the node is active if ``path`` is given; ``~/start_episode`` and
    ``~/stop_episode`` open and close another one for each episode.

    Raises:
        ConfigError: A parameter is wrong.
    """

    def __init__(self) -> None:
        super().__init__(RecorderParameters)
        self._topics: RecordedTopics | None = None
        self._run: Recording | None = None
        self._episode: Recording | None = None
        self._ended_because = ""
        self._has_failed = False
        self._set_periods(self.parameters)
        self.create_service(StartEpisode, "~/start_episode", self._on_start_episode)
        self.create_service(StopEpisode, "~/stop_episode", self._on_stop_episode)
        Diagnostics(self, "recorder").add("recording", self._report)

    @property
    def tick_rate_hz(self) -> float:
        """How often the subscriptions are read."""
        return self.parameters.poll_rate_hz

    @property
    def has_failed(self) -> bool:
        """Whether a bag could not be written."""
        return self._has_failed

    def configure(self) -> None:
        """Look for the message types.

        Raises:
            ConfigError: One is not installed.
        """
        require_types(self.parameters.topics)

    def activate(self) -> None:
        """Open the bag of the run, if there is to be one, and subscribe.

        Raises:
            ConfigError: The bag's folder exists, or the disk is nearly full.
        """
        entries = self.parameters.topics
        if self.parameters.path:
            path = Path(self.parameters.path)
            self._require_space(path)
            self._run = Recording(path, compress=self.parameters.compress, notes={})
            self.get_logger().info(f"recording {len(entries)} topics to {path}")
        self._topics = RecordedTopics(self, entries, self.parameters.depth)

    def deactivate(self) -> None:
        """Write what still waits, close the bags and report what they hold, unsubscribe."""
        if self._topics is None:
            return
        with self._ending_on_failure():
            self._write(self._topics.take())
            self._close_all("the recorder was ended")
        for topic in self._topics.untyped:
            self.get_logger().warning(f"{topic}: nobody published it")
        self._topics.destroy()
        self._topics = None

    def release(self) -> None:
        """Nothing is kept while it is inactive."""

    def apply(self, parameters: RecorderParameters) -> None:
        """Take parameters that were set."""
        super().apply(parameters)
        self._set_periods(parameters)

    def tick(self) -> None:
        """Write the waiting messages; now and then look at the graph, the bags and the disk."""
        assert self._topics is not None
        with self._ending_on_failure():
            if self._discovery_due.is_due():
                self._write(self._topics.discover())
            self._write(self._topics.take())
            if self._flush_due.is_due():
                for recording in self._open():
                    recording.flush()
                self._watch_disk()

    def _set_periods(self, parameters: RecorderParameters) -> None:
        self._discovery_due = Periodic(parameters.discovery_period_s)
        self._flush_due = Periodic(parameters.flush_period_s)

    @contextmanager
    def _ending_on_failure(self) -> Iterator[None]:
        """End the node when the disk is full or gone, or the definition of a type is missing."""
        try:
            yield
        except (VLAError, OSError) as error:
            self.get_logger().fatal(f"recording ended: {error}")
            self._run = self._episode = None
            self._has_failed = True

    def _open(self) -> list[Recording]:
        return [recording for recording in (self._run, self._episode) if recording is not None]

    def _write(self, messages: Iterable[ReceivedMessage]) -> None:
        for message in messages:
            for recording in self._open():
                self._add(recording, message.topic)
                recording.write(
                    message.topic.name, message.received_ns, message.data, message.num_lost
                )

    def _add(self, recording: Recording, topic: RecordedTopic) -> None:
        if self._topics is not None and not recording.has_topic(topic.name):
            profiles = self._topics.publisher_profiles(topic.name)
            recording.add_topic(topic.name, topic.type_name, profiles)

    def _on_start_episode(
        self, request: StartEpisode.Request, response: StartEpisode.Response
    ) -> StartEpisode.Response:
        try:
            if self._topics is None:
                raise ConfigError(f"the node is not active. {self.failure}".rstrip())
            if self._episode is not None:
                raise ConfigError(
                    f"episode {self._episode.path} is being recorded; stop it first."
                )
            # What came before the request belongs to no episode.
            self._write(self._topics.take())
            self._episode = self._begin_episode(self._topics, request.instruction)
        except (VLAError, OSError) as error:
            response.message = str(error)
            self.get_logger().error(f"episode is not recorded: {error}")
            return response
        response.success, response.path = True, str(self._episode.path)
        self.get_logger().info(f"recording {request.instruction!r} to {response.path}")
        return response

    def _begin_episode(self, topics: RecordedTopics, instruction: str) -> Recording:
        folder = Path(self.parameters.episodes_path)
        folder.mkdir(parents=True, exist_ok=True)
        self._require_space(folder)
        numbers = [path.name.removeprefix("episode_") for path in folder.glob("episode_*")]
        number = 1 + max((int(text) for text in numbers if text.isdecimal()), default=0)
        now_ns = self.get_clock().now().nanoseconds
        episode = Recording(
            folder / f"episode_{number:04d}",
            compress=self.parameters.compress,
            notes={"instruction": instruction, "success": None, "start_ns": now_ns},
        )
        for topic in topics:
            if topic.latched is not None:
                self._add(episode, topic)
                episode.write(topic.name, now_ns, topic.latched)
        return episode

    def _on_stop_episode(
        self, request: StopEpisode.Request, response: StopEpisode.Response
    ) -> StopEpisode.Response:
        if self._topics is not None and self._episode is not None:
            self._write(self._topics.take())
        episode, self._episode = self._episode, None
        if episode is None:
            response.message = self._ended_because or "no episode is being recorded"
            return response
        self._close(episode, success=request.task_success, note=request.note)
        response.success, response.path = True, str(episode.path)
        response.num_messages, response.num_lost = episode.num_messages, episode.num_lost
        return response

    def _close_all(self, reason: str) -> None:
        run, episode = self._run, self._episode
        self._run = self._episode = None
        if run is not None:
            self._close(run)
        if episode is not None:
            self._close(episode, note=reason)

    def _close(self, recording: Recording, **notes: object) -> None:
        recording.close(**notes, end_ns=self.get_clock().now().nanoseconds)
        self.get_logger().info(f"{recording.path} is complete")
        lost = recording.lost_by_topic()
        for topic, count in recording.written_by_topic().items():
            self.get_logger().info(f"{topic}: {count} messages")
            if topic in lost:
                self.get_logger().warning(
                    f"{topic}: {lost[topic]} messages were lost before they could be written; "
                    "raise 'depth' or 'poll_rate_hz', or set FASTDDS_DEFAULT_PROFILES_FILE."
                )

    def _watch_disk(self) -> None:
        for recording in self._open():
            try:
                self._require_space(recording.path)
            except ConfigError as error:
                self._ended_because = str(error)
                self.get_logger().error(f"recording ends: {error}")
                self._close_all(str(error))
                return

    def _require_space(self, path: Path) -> None:
        """Refuse a disk that is nearly full.

        Raises:
            ConfigError: There is less space than ``min_free_mib``.
        """
        free_mib = _free_mib(path)
        if free_mib < self.parameters.min_free_mib:
            raise ConfigError(
                f"the disk of {path} has {free_mib:.0f} MiB free, at least "
                f"{self.parameters.min_free_mib} (min_free_mib) must be; make room."
            )

    def _report(self) -> DiagnosticReport:
        recordings = self._open()
        if self._ended_because and not recordings:
            return DiagnosticReport(DiagnosticLevel.ERROR, self._ended_because)
        if not recordings:
            return DiagnosticReport(DiagnosticLevel.OK, "no bag is open")
        values: dict[str, object] = {
            "free [MiB]": round(min(_free_mib(recording.path) for recording in recordings))
        }
        for recording in recordings:
            values[f"{recording.path}: messages"] = recording.num_messages
            values[f"{recording.path}: lost"] = recording.num_lost
        num_lost = sum(recording.num_lost for recording in recordings)
        if num_lost:
            return DiagnosticReport(DiagnosticLevel.WARN, f"{num_lost} messages are lost", values)
        return DiagnosticReport(DiagnosticLevel.OK, "recording", values)


def _free_mib(path: Path) -> float:
    """Return the free space where a path is or will be."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free / 2**20


def main(args: list[str] | None = None) -> int:
    """Run recorder_node until SIGINT or SIGTERM."""
    return run_node("recorder_node", RecorderNode, args)


if __name__ == "__main__":
    sys.exit(main())
