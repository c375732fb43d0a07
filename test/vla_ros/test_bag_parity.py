# SPDX-License-Identifier: MIT
"""One recording through the node's subscriptions and through the import: the same arrays."""

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, JointState

from vla_core.dataset import EpisodeDataset, EpisodeWriter
from vla_core.dataset.bag_import import AGES, BagImporter, age_feature
from vla_core.dataset.bag_observations import BagObservations
from vla_core.processing.contract import RobotContract
from vla_core.types import Observation
from vla_ros.conversions import image_message, sensor_publisher_qos, time_message
from vla_ros.observation_receiver import ObservationReceiver
from vla_ros.recording import Recording

pytestmark = pytest.mark.ros

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
JOINTS = ["shoulder", "elbow"]
DURATION_MS = 1000


@pytest.fixture
def contract():
    limits = {"lower": -2.0, "upper": 2.0, "velocity": 1.0, "acceleration": 5.0}
    size = {"width": 16, "height": 8, "max_age_s": 0.3}
    return RobotContract.from_dict(
        {
            "robot": "two_joints",
            "cameras": {"front": {"topic": "front", **size}, "wrist": {"topic": "wrist", **size}},
            "state": {"topic": "joint_states", "joints": JOINTS, "max_age_s": 0.2},
            "action": {
                "kind": "joint_position",
                "joints": JOINTS,
                "rate_hz": 10.0,
                "max_age_s": 0.6,
            },
            "command": {"rate_hz": 50.0, "output": "joint_trajectory", "topic": "trajectory"},
            "limits": dict.fromkeys(JOINTS, limits),
        }
    )


def recorded_messages():
    """Topic, time of arrival and message: uneven delays, jitter, and a dropped frame."""
    random = np.random.default_rng(3)
    messages = []
    for number, at in enumerate(range(0, DURATION_MS, 50)):
        for topic, delay in (("front", 8.0), ("wrist", 13.0)):
            if (topic, number) == ("wrist", 9):
                continue
            stamp = START_NS + round((at + random.uniform(-4, 4)) * MS)
            pixels = random.integers(0, 256, (8, 16, 3), dtype=np.uint8)
            arrival = stamp + round((delay + random.uniform(0, 3)) * MS)
            messages.append((arrival, topic, image_message(pixels, stamp_ns=stamp)))
    for at in range(0, DURATION_MS, 10):
        stamp = START_NS + round((at + random.uniform(-2, 2)) * MS)
        state = JointState(name=["elbow", "shoulder"], position=random.normal(size=2).tolist())
        state.header.stamp = time_message(stamp)
        messages.append((stamp + round(random.uniform(0.5, 2) * MS), "joint_states", state))
    return sorted(messages, key=lambda sent: sent[0])


class RecordedClock:
    """The time at which a recorded message arrived."""

    time_ns = START_NS

    def now_ns(self):
        return self.time_ns


@pytest.fixture
def bag(tmp_path):
    """The messages in an MCAP bag of recorder_node's writer."""
    recording = Recording(tmp_path / "bag", compress=True, notes={"instruction": "pick"})
    for arrival, topic, message in recorded_messages():
        if not recording.has_topic(f"/{topic}"):
            kind = "JointState" if isinstance(message, JointState) else "Image"
            recording.add_topic(f"/{topic}", f"sensor_msgs/msg/{kind}", [sensor_publisher_qos()])
        recording.write(f"/{topic}", arrival, serialize_message(message))
    recording.close()
    return tmp_path / "bag"


@pytest.fixture
def observe_live(node, contract, wait_until):
    """Return what the node's receiver observes at given times of the same messages."""
    clock = RecordedClock()
    receiver = ObservationReceiver(node, contract, clock)
    qos = sensor_publisher_qos()
    qos.depth = 100
    publishers = {
        topic: node.create_publisher(JointState if topic == "joint_states" else Image, topic, qos)
        for topic in ("front", "wrist", "joint_states")
    }
    wait_until(
        lambda: all(p.get_subscription_count() == 1 for p in publishers.values()), "discovery"
    )

    def take_frame(topic, stamp_ns):
        """Wait until a frame has come; its age says which one it is."""
        age_s = (clock.now_ns() - stamp_ns) * 1e-9
        receiver.buffer.camera_ages_s(clock.now_ns())
        wait_until(
            lambda: (
                receiver._take_images() is not None
                and receiver.buffer.camera_ages_s(clock.now_ns())[topic]
                == pytest.approx(age_s, abs=1e-6)
            ),
            f"a frame of {topic}",
        )

    def observe(ticks):
        messages = iter(recorded_messages())
        sent = next(messages, None)
        for tick in ticks:
            while sent is not None and sent[0] <= tick.time_ns:
                clock.time_ns, topic, message = sent
                publishers[topic].publish(message)
                if topic != "joint_states":
                    stamp = message.header.stamp
                    take_frame(topic, stamp.sec * 1_000_000_000 + stamp.nanosec)
                sent = next(messages, None)
            clock.time_ns = tick.time_ns
            found = []

            def is_complete(tick=tick, found=found):
                found.append(receiver.observe("pick"))
                return (
                    isinstance(found[-1], Observation)
                    and found[-1].state_stamp_ns == tick.observation.state_stamp_ns
                )

            wait_until(is_complete, "the joint states")
            yield found[-1]

    yield observe
    receiver.destroy()


def test_live_and_imported_observations_are_the_same_arrays(bag, contract, observe_live, tmp_path):
    with BagObservations(bag, contract, actions=("state",)) as reader:
        ticks = [tick for tick in reader if tick.action is not None]
    with EpisodeWriter.for_contract(
        tmp_path / "data", contract, columns={AGES: age_feature(contract)}
    ) as writer:
        BagImporter(writer, contract, actions=("state",)).add(bag)
    dataset = EpisodeDataset(tmp_path / "data")
    episode, ages = dataset.episode(0), dataset.column(AGES)
    assert len(ticks) == len(episode.actions) >= 8
    for row, live in enumerate(observe_live(ticks)):
        tick = ticks[row]
        assert live.stamp_ns == tick.observation.stamp_ns
        assert live.image_stamps_ns == tick.observation.image_stamps_ns
        for name in contract.cameras:
            np.testing.assert_array_equal(tick.observation.images[name], live.images[name])
            np.testing.assert_array_equal(episode.images[name][row], live.images[name])
        np.testing.assert_array_equal(tick.observation.state, live.state)
        np.testing.assert_array_equal(episode.state[row], live.state.astype(np.float32))
        stamps = [*live.image_stamps_ns.values(), live.state_stamp_ns]
        expected = [(tick.time_ns - stamp) * 1e-9 for stamp in stamps]
        np.testing.assert_allclose(ages[row], expected, rtol=1e-6)
