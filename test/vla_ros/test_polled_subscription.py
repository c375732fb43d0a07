# SPDX-License-Identifier: MIT
import time

import numpy as np
import pytest
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from vla_ros import polled_subscription
from vla_ros.conversions import command_qos, sensor_subscription_qos
from vla_ros.polled_subscription import AbsoluteRate, Periodic, PolledSubscription

pytestmark = pytest.mark.ros


@pytest.fixture
def publish(node, wait_until):
    """Publish texts reliably, and return when the subscriptions have them."""
    publisher = node.create_publisher(String, "text", 10)

    def publish(*texts):
        wait_until(publisher.get_subscription_count, "a subscription")
        for text in texts:
            publisher.publish(String(data=text))
        assert publisher.wait_for_all_acked(Duration(seconds=60))

    return publish


def test_take_returns_the_newest_message_once(node, publish):
    subscription = PolledSubscription(node, String, "text", QoSProfile(depth=10))
    publish("old", "older", "new")
    assert subscription.take().data == "new"
    assert subscription.take() is None
    assert subscription.num_received == 3


def test_nothing_is_taken_before_a_message_came(node):
    subscription = PolledSubscription(node, String, "text", command_qos())
    assert subscription.take() is None
    assert subscription.take_next() is None
    assert subscription.num_received == 0


def test_depth_one_keeps_the_newest(node, publish):
    subscription = PolledSubscription(node, String, "text", command_qos())
    publish("1", "2", "3")
    assert subscription.take_next().data == "3"
    assert subscription.take_next() is None


def test_take_next_returns_messages_in_order(node, publish):
    subscription = PolledSubscription(node, String, "text", QoSProfile(depth=10))
    publish("1", "2", "3")
    assert [subscription.take_next().data for _ in range(3)] == ["1", "2", "3"]


def test_raw_messages_are_the_serialised_bytes(node, publish):
    subscription = PolledSubscription(node, String, "text", command_qos(), raw=True)
    publish("hello")
    data = subscription.take()
    assert isinstance(data, bytes)
    assert deserialize_message(data, String).data == "hello"


def test_message_info_has_the_time_of_reception(node, publish):
    subscription = PolledSubscription(node, String, "text", command_qos())
    before = time.time_ns()
    publish("now")
    _, info = subscription.take_next_with_info()
    assert before <= info["received_timestamp"] <= time.time_ns()


def test_executor_that_spins_the_node_leaves_the_messages_alone(node, publish):
    subscription = PolledSubscription(node, String, "text", command_qos())
    publish("mine")
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    for _ in range(5):
        executor.spin_once(timeout_sec=0.0)
    executor.shutdown()
    assert subscription.take().data == "mine"


def test_publishers_are_counted_when_they_match(node, wait_until):
    subscription = PolledSubscription(node, String, "text", command_qos())
    assert subscription.num_publishers == 0
    node.create_publisher(String, "text", sensor_subscription_qos())
    publisher = node.create_publisher(String, "text", command_qos())
    wait_until(publisher.get_subscription_count, "the match")
    wait_until(lambda: node.count_publishers("text") == 2, "both publishers in the graph")
    assert subscription.num_publishers == 1


def test_topic_is_given_with_its_namespace(node):
    assert PolledSubscription(node, String, "text", command_qos()).topic == "/text"
    private = PolledSubscription(node, String, "~/text", command_qos())
    assert private.topic == f"/{node.get_name()}/text"


class VirtualTime:
    """Time that passes only when somebody sleeps, and a little longer than asked for."""

    def __init__(self):
        self.now_ns = 1_000_000_000
        self.oversleep_ns = 100_000

    def monotonic_ns(self):
        return self.now_ns

    def sleep(self, duration_s):
        self.now_ns += round(duration_s * 1e9) + self.oversleep_ns


@pytest.fixture
def virtual_time(monkeypatch):
    clock = VirtualTime()
    monkeypatch.setattr(polled_subscription, "time", clock)
    return clock


def test_rate_wakes_at_multiples_of_its_period_without_adding_up_errors(virtual_time):
    rate = AbsoluteRate(0.02)
    start_ns = virtual_time.now_ns
    for tick in range(1, 100):
        assert rate.sleep() == pytest.approx(1e-4)
        assert rate.deadline_ns == start_ns + tick * 20_000_000
    assert rate.num_missed == 0


def test_overrun_skips_the_deadlines_it_missed_and_keeps_the_phase(virtual_time):
    rate = AbsoluteRate(0.02)
    start_ns = virtual_time.now_ns
    virtual_time.now_ns += 70_000_000
    assert rate.sleep() == pytest.approx(0.05)
    assert rate.num_missed == 2
    assert rate.deadline_ns == start_ns + 60_000_000
    assert rate.sleep() == pytest.approx(1e-4)
    assert rate.deadline_ns == start_ns + 80_000_000


def test_process_that_is_stopped_in_its_sleep_skips_deadlines_and_has_no_burst(virtual_time):
    rate = AbsoluteRate(0.02)
    start_ns = virtual_time.now_ns
    virtual_time.oversleep_ns = 2_005_000_000
    assert rate.sleep() == pytest.approx(2.005)
    assert rate.num_missed == 100
    assert rate.deadline_ns == start_ns + 2_020_000_000
    virtual_time.oversleep_ns = 0
    assert rate.sleep() == 0.0
    assert virtual_time.now_ns == start_ns + 2_040_000_000


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan")])
def test_period_that_is_not_positive_is_refused(period_s):
    with pytest.raises(ValueError, match="period_s"):
        AbsoluteRate(period_s)


def test_periodic_is_due_at_once_and_then_every_period(virtual_time):
    periodic = Periodic(0.05)
    due = []
    for _ in range(20):
        due.append(periodic.is_due())
        virtual_time.now_ns += 10_000_000
    assert due == [True, False, False, False, False] * 4


def test_periodic_in_a_loop_that_wakes_a_little_early_does_not_wait_a_turn(virtual_time):
    periodic = Periodic(0.01)
    assert periodic.is_due()
    virtual_time.now_ns += 9_500_000
    assert periodic.is_due()


def test_periodic_skips_what_was_missed(virtual_time):
    periodic = Periodic(0.05)
    virtual_time.now_ns += 170_000_000
    assert periodic.is_due()
    assert not periodic.is_due()
    virtual_time.now_ns += 50_000_000
    assert periodic.is_due()


@pytest.mark.parametrize("phase_ms", range(10))
def test_periodic_is_due_in_every_turn_of_a_jittering_loop_of_its_period(virtual_time, phase_ms):
    rng = np.random.default_rng(phase_ms)
    periodic = Periodic(0.01)
    start_ns = virtual_time.now_ns + phase_ms * 1_000_000
    for turn in range(200):
        virtual_time.now_ns = start_ns + turn * 10_000_000 + int(rng.integers(500_000))
        assert periodic.is_due()
