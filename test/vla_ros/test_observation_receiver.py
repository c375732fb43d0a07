# SPDX-License-Identifier: MIT
"""Observations over real topics: every kind of source, both clocks, faults and recovery."""

import io
import threading
import time

import numpy as np
import PIL.Image
import pytest
import rclpy
from geometry_msgs.msg import WrenchStamped
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64

from vla_core.processing.contract import RobotContract
from vla_core.processing.gaps import Gap, GapCause
from vla_core.types import Observation
from vla_ros.conversions import image_message, sensor_publisher_qos, time_message
from vla_ros.node_clock import NodeClock
from vla_ros.observation_receiver import ObservationReceiver

pytestmark = pytest.mark.ros

WIDTH, HEIGHT = 8, 6
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
ARM, GRIPPER = ["shoulder", "elbow"], ["finger"]


def make_contract(max_age_s=5.0):
    """A robot of every kind of source; the largest age is generous to a busy machine."""
    size = {"width": WIDTH, "height": HEIGHT, "max_age_s": max_age_s}
    limits = {"lower": -2.0, "upper": 2.0, "velocity": 1.0, "acceleration": 5.0}
    return RobotContract.from_dict(
        {
            "robot": "everything",
            "cameras": {
                "color": {"topic": "color", **size},
                "bayer": {"topic": "bayer", **size},
                "depth": {"topic": "depth", **size, "depth_range_m": [0.5, 2.5]},
                "packed": {"topic": "packed", **size, "transport": "compressed"},
            },
            "state": {
                "topic": "joint_states",
                "joints": [*GRIPPER, *ARM],
                "max_age_s": max_age_s,
                "fields": ["position", "velocity"],
                "extra_topics": ["gripper/joint_states"],
            },
            "inputs": {
                "force": {"type": "wrench", "topic": "wrench", "max_age_s": max_age_s},
                "opening": {"type": "float64", "topic": "opening", "max_age_s": max_age_s},
            },
            "action": {
                "kind": "joint_position",
                "joints": ARM,
                "rate_hz": 10.0,
                "max_age_s": 0.6,
            },
            "command": {"rate_hz": 50.0, "output": "joint_trajectory", "topic": "trajectory"},
            "limits": dict.fromkeys(ARM, limits),
        }
    )


class Robot:
    """Publishes all that the contract names."""

    def __init__(self, node):
        file = io.BytesIO()
        PIL.Image.fromarray(RGB).save(file, "PNG")
        mosaic = np.zeros((HEIGHT, WIDTH), np.uint8)
        mosaic[::2, ::2], mosaic[1::2, 1::2] = 200, 30
        mosaic[::2, 1::2] = mosaic[1::2, ::2] = 90
        depth = np.full((HEIGHT, WIDTH), 1500, "<u2")
        shape = {"width": WIDTH, "height": HEIGHT}
        self._messages = {
            "color": image_message(RGB, stamp_ns=0),
            "bayer": Image(encoding="bayer_rggb8", step=WIDTH, data=mosaic.tobytes(), **shape),
            "depth": Image(encoding="16UC1", step=2 * WIDTH, data=depth.tobytes(), **shape),
            "packed": CompressedImage(format="png", data=file.getvalue()),
            "joint_states": JointState(name=ARM, position=[1.0, 2.0], velocity=[0.1, 0.2]),
            "gripper/joint_states": JointState(name=GRIPPER, position=[3.0], velocity=[0.3]),
            "wrench": WrenchStamped(),
            "opening": Float64(data=7.0),
        }
        self._messages["wrench"].wrench.force.z = 5.0
        self._publishers = {
            topic: node.create_publisher(type(message), topic, sensor_publisher_qos())
            for topic, message in self._messages.items()
        }

    def publish(self, stamp_ns, without=()):
        for topic, message in self._messages.items():
            if topic in without:
                continue
            if hasattr(message, "header"):
                message.header.stamp = time_message(stamp_ns)
            self._publishers[topic].publish(message)


@pytest.fixture
def robot(node):
    return Robot(node)


@pytest.fixture
def make_receiver(node):
    """Make the receiver of a node of its own, on wall or on simulated time."""
    made = []

    def make(simulated=False, namespace="", **contract):
        receiving = rclpy.create_node(
            f"receiving_{len(made)}",
            context=node.context,
            namespace=namespace,
            parameter_overrides=[Parameter("use_sim_time", value=simulated)],
        )
        clock = NodeClock(receiving)
        made.append((receiving, ObservationReceiver(receiving, make_contract(**contract), clock)))
        return made[-1][1], clock

    yield make
    for receiving, receiver in made:
        receiver.destroy()
        receiving.destroy_node()


NEVER = threading.Event()


def look(receiver):
    receiver.wait_for_frames(NEVER, frame_wait_s=0.0, camera_wait_s=0.0, camera_skew_s=0.0)
    return receiver.observe("pick")


def observation_of(robot, receiver, now_ns, wait_until, **publish):
    """Publish until an observation comes, and return it."""

    def attempt():
        robot.publish(now_ns(), **publish)
        result = look(receiver)
        return isinstance(result, Observation) and result

    return wait_until(attempt, "an observation")


def test_every_kind_of_source_reaches_the_policy(robot, make_receiver, wait_until):
    receiver, clock = make_receiver()
    observation = observation_of(robot, receiver, clock.now_ns, wait_until)
    np.testing.assert_array_equal(observation.images["color"], RGB)
    np.testing.assert_array_equal(observation.images["packed"], RGB)
    assert observation.images["bayer"][2, 2].tolist() == [200, 90, 30]
    assert (observation.images["depth"] == 128).all()
    np.testing.assert_allclose(
        observation.state, [3, 1, 2, 0.3, 0.1, 0.2, 0, 0, 5, 0, 0, 0, 7], atol=1e-12
    )
    assert list(observation.skews_s) == ["color", "bayer", "depth", "packed", "state"]


@pytest.mark.parametrize(
    ("topic", "source"),
    [
        ("packed", "camera 'packed'"),
        ("gripper/joint_states", "joint states"),
        ("wrench", "input 'force'"),
    ],
)
def test_source_that_never_comes_is_named(robot, make_receiver, wait_until, topic, source):
    receiver, clock = make_receiver()

    def attempt():
        robot.publish(clock.now_ns(), without=[topic])
        result = look(receiver)
        assert isinstance(result, Gap)
        return result.source == source and result.cause is GapCause.NOTHING_RECEIVED

    wait_until(attempt, "the gap")


def test_waiting_ends_with_the_frame_that_it_waits_for(robot, make_receiver, wait_until):
    receiver, clock = make_receiver()
    first = observation_of(robot, receiver, clock.now_ns, wait_until)
    thread = threading.Timer(0.1, lambda: robot.publish(clock.now_ns()))
    thread.start()
    receiver.wait_for_frames(NEVER, frame_wait_s=60.0, camera_wait_s=60.0, camera_skew_s=0.0)
    thread.join()
    second = receiver.observe("pick")
    assert second.stamp_ns > first.stamp_ns
    assert set(second.image_stamps_ns.values()) == {second.stamp_ns}


def test_waiting_ends_when_the_node_stops(make_receiver):
    receiver, _ = make_receiver()
    is_over = threading.Event()
    is_over.set()
    receiver.wait_for_frames(is_over, frame_wait_s=1e9, camera_wait_s=1e9, camera_skew_s=0.0)


class Simulation:
    """A /clock that goes on by a step whenever it is told to."""

    def __init__(self, node, start_s):
        self._publisher = node.create_publisher(Clock, "/clock", 1)
        self._now_ns = round(start_s * 1e9)

    def now_ns(self):
        self._publisher.publish(Clock(clock=time_message(self._now_ns)))
        return self._now_ns

    def advance(self, duration_s):
        self._now_ns += round(duration_s * 1e9)
        return self.now_ns()


def test_simulated_time_that_nobody_publishes_is_named(make_receiver):
    receiver, _ = make_receiver(simulated=True)
    gap = look(receiver)
    assert (gap.source, gap.cause) == ("clock", GapCause.NOTHING_RECEIVED)
    assert "use_sim_time is true, but nothing was received yet" in gap.reason


def test_ages_count_in_simulated_time_and_a_jump_back_recovers(
    node, robot, make_receiver, wait_until
):
    receiver, clock = make_receiver(simulated=True, max_age_s=0.2)
    simulation = Simulation(node, start_s=100.0)

    def now_is(now_ns):
        return wait_until(lambda: clock.now_ns() == simulation.now_ns() == now_ns, "the clock")

    now_is(simulation.advance(0.0))
    observation = observation_of(robot, receiver, clock.now_ns, wait_until)
    assert observation.stamp_ns == 100_000_000_000
    # However long this test takes on the wall, the observation stays young.
    assert isinstance(look(receiver), Observation)
    now_is(simulation.advance(0.3))
    gap = look(receiver)
    assert (gap.source, gap.cause) == ("camera 'color'", GapCause.SILENT)
    now_is(simulation.advance(-60.0))
    assert look(receiver).cause is GapCause.NOTHING_RECEIVED
    observation = observation_of(robot, receiver, clock.now_ns, wait_until)
    assert observation.stamp_ns == 40_300_000_000


def test_stamps_of_the_future_name_the_nodes_that_publish_the_topic(
    node, robot, make_receiver, wait_until, monkeypatch
):
    other_node = rclpy.create_node("other", context=node.context)
    other = Robot(other_node)
    receiver, clock = make_receiver()

    def attempt():
        robot.publish(clock.now_ns())
        other.publish(clock.now_ns() + 300_000_000_000)
        result = look(receiver)
        return isinstance(result, Gap) and "2 nodes publish /color: " in result.reason and result

    gap = wait_until(attempt, "both publishers")
    assert gap.cause is GapCause.FUTURE
    assert "synchronise the clocks. 2 nodes publish /color: /other, /test_node;" in gap.reason
    asked = []

    def ask(node, topic):
        asked.append(topic)
        return get_publishers(node, topic)

    get_publishers = rclpy.node.Node.get_publishers_info_by_topic
    monkeypatch.setattr(rclpy.node.Node, "get_publishers_info_by_topic", ask)
    start_s = time.monotonic()
    for _ in range(50):
        robot.publish(clock.now_ns())
        other.publish(clock.now_ns() + 300_000_000_000)
        assert "2 nodes publish /color: " in look(receiver).reason
    # Once a second, and not in every inference.
    assert asked.count("/color") <= 1.0 + time.monotonic() - start_s
    other_node.destroy_node()


def test_robots_in_two_namespaces_do_not_hear_each_other(node, make_receiver, wait_until):
    nodes = [
        rclpy.create_node("robot", namespace=name, context=node.context) for name in ("a", "b")
    ]
    first, second = (Robot(made) for made in nodes)
    receiver_a, clock = make_receiver(namespace="a")
    receiver_b, _ = make_receiver(namespace="b")
    observation_of(first, receiver_a, clock.now_ns, wait_until)
    gap = look(receiver_b)
    assert gap.cause in (GapCause.NOTHING_RECEIVED, GapCause.NO_PUBLISHER)
    observation_of(second, receiver_b, clock.now_ns, wait_until)
    for made in nodes:
        made.destroy_node()
