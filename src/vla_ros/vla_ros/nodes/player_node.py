# SPDX-License-Identifier: MIT
"""Play what a robot's cameras and joints said in a recording, with /clock, streaming.

For machines that have no rosbag2, and for recordings whose recorder had another clock.

Simulated time goes ahead in even steps and never jumps: where the machine is too slow it goes
slower. Messages of one step follow the /clock that has reached them, so that nothing is from the
future. Example::

  python -m vla_ros.nodes.player_node --ros-args -p bag:=out/demo/bag -p rate:=0.5
"""

from __future__ import annotations

import sys
import time

from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool

from vla_core.dataset.recording import Recording
from vla_core.errors import VLAError
from vla_core.processing.contract import load_contract
from vla_ros.bag_playback import BagPlayback, observed_topics
from vla_ros.conversions import sensor_publisher_qos, time_message
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.message_types import find_message_type
from vla_ros.node_clock import CLOCK_TOPIC
from vla_ros.parameters import PlayerParameters
from vla_ros.parameters.declaration import declare_parameters
from vla_ros.polled_subscription import AbsoluteRate
from vla_ros.stop_signal import StopSignal

_SERVICES_EVERY_S = 0.05
_REPORT_EVERY_S = 5.0


class PlayerNode(Node):
    """Publishes the messages of a recording and /clock.

    Serves ``~/pause``, false goes on. While it is paused /clock stands still.

    Attributes:
        playback: What is played.
        now_ns: Simulated time.
        is_paused: Whether it stands still.

    Raises:
        ConfigError: A parameter is not valid, or a message type is not installed.
        DatasetError: The recording lacks a topic, or cannot be read.
    """

    def __init__(self) -> None:
        super().__init__("player_node")
        self.parameters = declare_parameters(self, PlayerParameters)
        self._recording = Recording(self.parameters.bag)
        self._recording.__enter__()
        topics = observed_topics(self._recording, load_contract(self.parameters.contract))
        self.playback = BagPlayback(
            self._recording,
            list(topics),
            clock=self.parameters.clock,
            start_s=self.parameters.start_s,
            duration_s=self.parameters.duration_s,
        )
        self.now_ns = self.playback.start_ns
        self.is_paused = self.parameters.start_paused
        kinds = self._recording.message_types
        self._outputs: dict[str, Publisher] = {
            topic: self.create_publisher(
                find_message_type(kinds[topic]), target, sensor_publisher_qos()
            )
            for topic, target in topics.items()
        }
        self._clock_publisher = self.create_publisher(Clock, CLOCK_TOPIC, 10)
        self.create_service(SetBool, "~/pause", self._on_pause)
        names = ", ".join(publisher.topic_name for publisher in self._outputs.values())
        self.get_logger().info(f"{self.parameters.bag}: {names}")

    def destroy_node(self) -> None:
        """Release the node and the recording."""
        self._recording.__exit__(None, None, None)
        super().destroy_node()

    def play(self, stop: StopSignal) -> None:
        """Play until the end or a signal.

        Raises:
            DatasetError: The recording is damaged.
        """
        executor = SingleThreadedExecutor()
        executor.add_node(self)
        turn = _Turn(self, executor, stop)
        while not stop.is_set and (self.is_paused or self._lacking()):
            turn.wait()
        begin_s, begin_ns = time.monotonic(), self.now_ns
        for message in self.playback:
            while self.now_ns < message.at_ns and not stop.is_set:
                turn.wait()
                self.now_ns += 0 if self.is_paused else turn.step_ns
                self.publish_clock()
            if stop.is_set:
                break
            self._outputs[message.topic].publish(message.data)
        self.publish_clock()
        played_s = (self.now_ns - begin_ns) * 1e-9
        rate = played_s / max(1e-9, time.monotonic() - begin_s)
        if played_s:
            self.get_logger().info(f"played {played_s:.1f} s at {rate:.2f} times its speed")
        executor.shutdown()

    def publish_clock(self) -> None:
        """Say how late it is."""
        self._clock_publisher.publish(Clock(clock=time_message(self.now_ns)))

    def _lacking(self) -> list[str]:
        """Return the topics whose subscribers are not matched yet; none where nobody waits."""
        if not self.parameters.wait_for_subscribers:
            return []
        return [
            publisher.topic_name
            for publisher in self._outputs.values()
            if publisher.get_subscription_count()
            < max(1, self.count_subscribers(publisher.topic_name))
        ]

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.is_paused = request.data
        lacking = self._lacking()
        waits = f"; waits for subscribers of {', '.join(lacking)}" if lacking else ""
        response.success = True
        response.message = "paused" if request.data else f"playing{waits}"
        return response


class _Turn:
    """Paces the playback and answers services between its steps."""

    def __init__(
        self, node: PlayerNode, executor: SingleThreadedExecutor, stop: StopSignal
    ) -> None:
        period_s = 1.0 / node.parameters.clock_rate_hz
        self.step_ns = max(1, round(period_s * 1e9))
        self._rate = AbsoluteRate(period_s / node.parameters.rate)
        self._node, self._executor, self._stop = node, executor, stop
        self._services_s = self._report_s = time.monotonic()

    def wait(self) -> None:
        """Wait until a step of /clock is due."""
        now_s = time.monotonic()
        if now_s >= self._services_s:
            self._services_s = now_s + _SERVICES_EVERY_S
            self._executor.spin_once(timeout_sec=0.0)
            if self._node.is_paused:
                self._node.publish_clock()
        if now_s >= self._report_s + _REPORT_EVERY_S:
            self._report_s = now_s
            done_s = (self._node.now_ns - self._node.playback.start_ns) * 1e-9
            self._node.get_logger().info(f"at {done_s:.0f} s")
        self._rate.sleep()


def main(args: list[str] | None = None) -> int:
    """Play a recording to its end, or until SIGINT or SIGTERM."""
    with StopSignal(args) as stop:
        try:
            node = PlayerNode()
        except VLAError as error:
            get_logger("player_node").fatal(str(error))
            return EXIT_CONFIGURATION
        try:
            node.play(stop)
        except VLAError as error:
            node.get_logger().fatal(str(error))
            return 1
        finally:
            node.destroy_node()
    return 0


if __name__ == "__main__":
    sys.exit(main())
