# SPDX-License-Identifier: MIT
"""The run of a policy on a recording that is being played, from the first listener to the end."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String
from std_srvs.srv import SetBool
from vla_msgs.msg import ActionChunk, CommandStatus, PolicyStatus

from vla_core.dataset.recording import Recording as ReadRecording
from vla_core.errors import ConfigError, VLAError
from vla_core.evaluation.replay.recorded_answers import PLAYED
from vla_core.processing.contract import RobotContract
from vla_ros.conversions import command_qos
from vla_ros.message_types import message_type_name
from vla_ros.node_clock import CLOCK_TOPIC, NodeClock
from vla_ros.polled_subscription import PolledSubscription
from vla_ros.recording import Recording

if TYPE_CHECKING:
    from vla_core.evaluation.replay.task_schedule import Task

PLAYER_NODE, ROSBAG2_PLAYER = "player_node", "rosbag2_player"
_POLICY_NODE, _COMMAND_NODE = "policy_node", "command_node"
_DEPTH = 1000
_LAST_ANSWER_S = 1.0
# A player whose /clock is a timer of its own need not tell the very last moment.
_END_TOLERANCE_NS = 50_000_000


class ReplayedRun:
    """Starts the player when all listen, gives the tasks in time, records the answers.

    Args:
        node: Node that subscribes; it is spun meanwhile.
        clock: Simulated time.
        contract: The robot.
        bag: The recording that is played.
        answers: Folder for the recording of the run; one that is there is replaced.
        tasks: What the policy is asked from which time on.
        player: ``own`` or ``rosbag2``.

    Attributes:
        num_chunks: Chunks so far.

    Raises:
        ConfigError: The player is not installed, or the folder cannot be written.
        DatasetError: The recording cannot be read.
    """

    def __init__(
        self,
        node: Node,
        clock: NodeClock,
        contract: RobotContract,
        *,
        bag: Path,
        answers: Path,
        tasks: Sequence[Task],
        player: str,
    ) -> None:
        self._node, self._clock = node, clock
        self._contract = contract
        self._tasks = list(tasks)
        self._is_rosbag2 = player == "rosbag2"
        with ReadRecording(bag) as recording:
            self._end_ns = recording.span_ns[1]
        kinds = {
            "action_chunk": ActionChunk,
            "command_node/status": CommandStatus,
            "policy_node/status": PolicyStatus,
        }
        self._sources: dict[str, PolledSubscription[Any]] = {
            topic: PolledSubscription(node, kind, topic, QoSProfile(depth=_DEPTH), raw=True)
            for topic, kind in kinds.items()
        }
        self._instruction = node.create_publisher(String, "instruction", command_qos())
        kind, service, self._request = _resume_service(player)
        self._resume = node.create_client(kind, service)
        if answers.is_dir():
            shutil.rmtree(answers)
        answers.parent.mkdir(parents=True, exist_ok=True)
        self._recording = Recording(answers, compress=True, notes={})
        for topic, source in self._sources.items():
            self._recording.add_topic(source.topic, message_type_name(kinds[topic]), [])
        self._had_player = False
        self._start_ns = 0
        self._resuming: Any = None
        self._ended_at_s: float | None = None
        self.num_chunks = 0

    def step(self) -> None:
        """Record what has come; start the player if all listen; give the task that is due.

        Raises:
            VLAError: The player cannot be started.
        """
        now_ns = self._clock.now_ns()
        for source in self._sources.values():
            while (message := source.take_next()) is not None:
                self._recording.write(source.topic, now_ns, message)
        self.num_chunks = self._sources["action_chunk"].num_received
        if self._start_ns:
            self._give_task(now_ns)
        elif self._resuming is not None:
            if self._resuming.done():
                self._start_ns = now_ns
                self._node.get_logger().info("the recording is played")
        elif not self._lacking():
            self._resuming = self._resume.call_async(self._request)

    def is_over(self) -> bool:
        """Tell whether all is played and the last answer had its time.

        Raises:
            VLAError: The player has ended before it was started.
        """
        has_player = self._node.count_publishers(CLOCK_TOPIC) > 0
        if not self._start_ns:
            if self._had_player and not has_player:
                raise VLAError("the player has ended before all nodes were ready; see its output.")
            self._had_player = has_player
            return False
        is_at_end = self._is_rosbag2 and self._clock.now_ns() >= self._end_ns - _END_TOLERANCE_NS
        if is_at_end or not has_player:
            self._ended_at_s = self._ended_at_s or time.monotonic()
            return time.monotonic() > self._ended_at_s + _LAST_ANSWER_S
        return False

    def describe(self) -> str:
        """Say how far it is, or what it waits for."""
        if self._start_ns:
            played_s = (self._clock.now_ns() - self._start_ns) * 1e-9
            return f"played {played_s:.0f} s, {self.num_chunks} chunks"
        return f"waiting for {', '.join(self._lacking()) or 'the player'}"

    def close(self) -> None:
        """Finish the recording of the run."""
        stop_ns = max(self._start_ns, self._clock.now_ns())
        self._recording.close(**{PLAYED: [self._start_ns, stop_ns]})

    def _give_task(self, now_ns: int) -> None:
        due = [task for task in self._tasks if task.start_ns <= now_ns]
        if due:
            self._tasks = self._tasks[len(due) :]
            self._instruction.publish(String(data=due[-1].instruction))

    def _lacking(self) -> list[str]:
        """Return who does not listen yet."""
        lacking = []
        if not self._resume.service_is_ready():
            lacking.append(self._resume.srv_name)
        if not self._instruction.get_subscription_count():
            lacking.append(_POLICY_NODE)
        wanted = [(camera.topic, _POLICY_NODE) for camera in self._contract.cameras.values()]
        for topic in self._contract.state.topics:
            wanted += [(topic, _POLICY_NODE), (topic, _COMMAND_NODE)]
        lacking += [
            f"{name} on {topic}" for topic, name in wanted if name not in self._listeners(topic)
        ]
        return lacking + [
            f"a publisher of {topic}"
            for topic, source in self._sources.items()
            if not source.num_publishers
        ]

    def _listeners(self, topic: str) -> set[str]:
        name = self._node.resolve_topic_name(topic)
        return {info.node_name for info in self._node.get_subscriptions_info_by_topic(name)}


def _resume_service(player: str) -> tuple[Any, str, Any]:
    """Return type and name of the service that starts a player, and the request for it.

    Raises:
        ConfigError: The service's package is not installed.
    """
    if player != "rosbag2":
        return SetBool, f"{PLAYER_NODE}/pause", SetBool.Request(data=False)
    try:
        kind = importlib.import_module("rosbag2_interfaces.srv").Resume
    except ImportError as error:
        raise ConfigError(
            "player 'rosbag2' needs rosbag2_interfaces, which is not installed; use 'own'."
        ) from error
    return kind, f"{ROSBAG2_PLAYER}/resume", kind.Request()
