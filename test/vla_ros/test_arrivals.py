# SPDX-License-Identifier: MIT
import threading
import time

import pytest
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from vla_ros.arrivals import Arrivals
from vla_ros.polled_subscription import PolledSubscription

pytestmark = pytest.mark.ros

FOREVER_S = 1e6


@pytest.fixture
def sources(node):
    return [PolledSubscription(node, String, name, QoSProfile(depth=10)) for name in ("a", "b")]


@pytest.fixture
def publisher(node, sources, wait_until):
    """Publishes what the second subscription hears."""
    publisher = node.create_publisher(String, "b", 10)
    wait_until(publisher.get_subscription_count, "the subscription")
    return publisher


def test_wait_ends_with_a_message_in_any_subscription_time_after_time(node, sources, publisher):
    arrivals = Arrivals(node, sources)
    for number in range(3):
        sender = threading.Timer(0.05, publisher.publish, [String(data=str(number))])
        sender.start()
        arrivals.wait(FOREVER_S)
        assert sources[1].take().data == str(number)
        sender.join()
    assert sources[0].take() is None


def test_message_that_came_before_ends_the_wait(node, sources, publisher):
    arrivals = Arrivals(node, sources)
    publisher.publish(String(data="early"))
    arrivals.wait(FOREVER_S)
    arrivals.wait(FOREVER_S)
    assert sources[1].take().data == "early"


def test_wait_without_a_message_ends_after_its_time(node, sources):
    start = time.monotonic()
    Arrivals(node, sources).wait(0.05)
    assert time.monotonic() - start >= 0.05
