# SPDX-License-Identifier: MIT
"""A run on a played recording: when it begins, what is asked and kept, and when it is over."""

import json
import sys
from types import SimpleNamespace

import pytest
import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from vla_msgs.msg import ActionChunk, CommandStatus, PolicyStatus

from vla_core.dataset.recording import Recording as ReadRecording
from vla_core.errors import ConfigError, VLAError
from vla_core.evaluation.replay.task_schedule import Task
from vla_core.processing.contract import load_contract
from vla_ros.conversions import time_message
from vla_ros.node_clock import NodeClock
from vla_ros.polled_subscription import PolledSubscription
from vla_ros.recording import Recording
from vla_ros.replayed_run import ReplayedRun

pytestmark = pytest.mark.ros

SECOND = 1_000_000_000
START_NS, END_NS = 100 * SECOND, 110 * SECOND
CONTRACT = load_contract("sim")
CAMERAS = [camera.topic for camera in CONTRACT.cameras.values()]


@pytest.fixture
def bag(tmp_path):
    recording = Recording(tmp_path / "bag", compress=False, notes={})
    recording.add_topic("/joint_states", "sensor_msgs/msg/JointState", [])
    for at_ns in (START_NS, END_NS):
        recording.write("/joint_states", at_ns, serialize_message(JointState()))
    recording.close()
    return tmp_path / "bag"


class Graph:
    """The nodes around a run: a player, a policy and a command loop that only listen."""

    def __init__(self, context):
        self._nodes = {
            name: rclpy.create_node(name, context=context)
            for name in ("player_node", "rosbag2_player", "policy_node", "command_node")
        }
        self._executor = SingleThreadedExecutor(context=context)
        for node in self._nodes.values():
            self._executor.add_node(node)
        self.calls = []
        player, policy, command = (
            self._nodes[name] for name in ("player_node", "policy_node", "command_node")
        )
        self._clock = player.create_publisher(Clock, "/clock", 10)
        player.create_service(SetBool, "~/pause", self._answer)
        self._nodes["rosbag2_player"].create_service(Trigger, "~/resume", self._answer)
        self.asked = PolledSubscription(policy, String, "instruction", QoSProfile(depth=10))
        self.chunks = policy.create_publisher(ActionChunk, "action_chunk", 10)
        policy.create_publisher(PolicyStatus, "~/status", 10)
        command.create_publisher(CommandStatus, "~/status", 10)
        self._heard = [
            PolledSubscription(policy, JointState, "joint_states", QoSProfile(depth=1)),
            PolledSubscription(command, JointState, "joint_states", QoSProfile(depth=1)),
        ]

    def _answer(self, request, response):
        self.calls.append(request)
        response.success = True
        return response

    def hear_cameras(self):
        self._heard += [
            PolledSubscription(self._nodes["policy_node"], Image, topic, QoSProfile(depth=1))
            for topic in CAMERAS
        ]

    def set_time(self, now_ns):
        self._clock.publish(Clock(clock=time_message(now_ns)))

    def spin(self):
        self._executor.spin_once(timeout_sec=0.0)

    def end_player(self):
        self._nodes["player_node"].destroy_publisher(self._clock)

    def close(self):
        self._executor.shutdown()
        for node in self._nodes.values():
            node.destroy_node()


@pytest.fixture
def graph(node):
    graph = Graph(node.context)
    yield graph
    graph.close()


@pytest.fixture
def run(node, executor, bag, tmp_path):
    """Start a run of some tasks; `step` takes part in it as the node's loop does."""
    node.set_parameters([Parameter("use_sim_time", value=True)])
    unclosed = []

    def start(*tasks, player="own"):
        run = ReplayedRun(
            node,
            NodeClock(node),
            CONTRACT,
            bag=bag,
            answers=tmp_path / "answers",
            tasks=tasks or [Task(0, "pick")],
            player=player,
        )
        unclosed.append(run)
        return SimpleNamespace(
            run=run,
            step=lambda: (executor.spin_once(timeout_sec=0.0), run.step()),
            close=lambda: unclosed.pop().close(),
        )

    yield start
    for run in unclosed:
        run.close()


@pytest.fixture
def playing(graph, run, wait_until):
    """Start a run that is being played at START_NS."""

    def start(*tasks, player="own"):
        started = run(*tasks, player=player)
        graph.hear_cameras()

        def begins():
            graph.set_time(START_NS)
            graph.spin()
            started.step()
            started.run.is_over()
            return started.run.describe().startswith("played 0 s")

        wait_until(begins, "the beginning")
        return started

    return start


def test_the_player_is_started_only_when_policy_and_command_node_listen(graph, run, wait_until):
    started = run()

    def waits_for_cameras_only():
        graph.set_time(START_NS)
        graph.spin()
        started.step()
        lacking = started.run.describe().removeprefix("waiting for ").split(", ")
        return lacking == [f"policy_node on {topic}" for topic in CAMERAS]

    wait_until(waits_for_cameras_only, "all listeners but those of the cameras")
    assert graph.calls == []
    graph.hear_cameras()
    wait_until(lambda: started.step() and (graph.spin() or graph.calls), "the start")
    (request,) = graph.calls
    assert request.data is False


def test_the_policy_is_asked_at_the_time_of_the_recording(graph, playing, wait_until):
    tasks = [
        Task(0, "pick"),
        Task(START_NS + 2 * SECOND, ""),
        Task(START_NS + 5 * SECOND, "place"),
    ]
    started = playing(*tasks)
    heard = []

    def hears(now_ns, *expected):
        def said():
            graph.set_time(now_ns)
            started.step()
            heard.extend(message.data for message in graph.asked.take_all())
            return heard == list(expected)

        wait_until(said, expected)

    hears(START_NS, "pick")
    hears(START_NS + 2 * SECOND, "pick", "")
    hears(START_NS + 6 * SECOND, "pick", "", "place")


def test_chunks_are_kept_with_the_span_that_was_played(graph, playing, wait_until, tmp_path):
    started = playing()

    def has_heard():
        graph.set_time(START_NS + SECOND)
        graph.chunks.publish(ActionChunk(checkpoint_id="mine"))
        started.step()
        return started.run.num_chunks

    wait_until(has_heard, "a chunk")
    started.close()
    with ReadRecording(tmp_path / "answers") as recording:
        ((_, chunk), *_) = recording.messages("/action_chunk")
    assert chunk.checkpoint_id == "mine"
    metadata = yaml.safe_load((tmp_path / "answers/metadata.yaml").read_text())
    notes = json.loads(metadata["rosbag2_bagfile_information"]["custom_data"]["vla_ros"])
    assert notes["played_ns"] == [START_NS, START_NS + SECOND]


def test_it_is_over_when_the_player_has_ended(graph, playing, wait_until):
    started = playing()
    assert not started.run.is_over()
    graph.end_player()
    wait_until(started.run.is_over, "the end")


def test_a_player_that_ends_before_it_was_started_is_an_error(graph, run, wait_until):
    started = run()
    wait_until(lambda: started.run.is_over() or started.run._had_player, "the player")
    graph.end_player()

    def fails():
        try:
            return started.run.is_over()
        except VLAError as error:
            return str(error)

    assert "ended before all nodes were ready" in wait_until(fails, "the error")


def test_rosbag2_is_resumed_and_over_at_the_end_of_the_recording(
    graph, playing, wait_until, monkeypatch
):
    # The package is on no index; its service has an empty request, as this one has.
    interfaces = SimpleNamespace(Resume=Trigger)
    monkeypatch.setitem(sys.modules, "rosbag2_interfaces", interfaces)
    monkeypatch.setitem(sys.modules, "rosbag2_interfaces.srv", interfaces)
    started = playing(player="rosbag2")
    assert [type(call) for call in graph.calls] == [Trigger.Request]
    assert not started.run.is_over()

    def ends():
        graph.set_time(END_NS)
        started.step()
        return started.run.is_over()

    wait_until(ends, "the end")


def test_rosbag2_that_is_not_installed_is_an_error(run):
    with pytest.raises(ConfigError, match="needs rosbag2_interfaces"):
        run(player="rosbag2")
