# SPDX-License-Identifier: MIT
"""A node's time without an executor: the wall's, or that of /clock."""

import threading
import time

import pytest
import rclpy
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from vla_ros.conversions import time_message
from vla_ros.node_clock import NodeClock, steady_clock

pytestmark = pytest.mark.ros

SECOND_NS = 1_000_000_000


@pytest.fixture
def make_node(node):
    """Make further nodes beside the test's own."""
    nodes = []

    def make(name, **arguments):
        nodes.append(rclpy.create_node(name, context=node.context, **arguments))
        return nodes[-1]

    yield make
    for made in nodes:
        made.destroy_node()


@pytest.fixture
def simulated(make_node):
    """The clock of a node under use_sim_time that nothing spins."""
    return NodeClock(
        make_node("simulated", parameter_overrides=[Parameter("use_sim_time", value=True)])
    )


@pytest.fixture
def set_clock(node, wait_until):
    """Publish a time on /clock, and return when a clock has it."""
    publisher = node.create_publisher(Clock, "/clock", 1)

    def set_clock(now_ns, clock):
        wait_until(publisher.get_subscription_count, "a subscription to /clock")

        def arrived():
            publisher.publish(Clock(clock=time_message(now_ns)))
            return clock.now_ns() == now_ns

        wait_until(arrived, "the time")

    return set_clock


def test_wall_time_is_that_of_the_system(node):
    clock = NodeClock(node)
    before_ns = time.time_ns()
    now_ns = clock.now_ns()
    assert not clock.is_simulated
    assert before_ns <= now_ns <= time.time_ns()


def test_simulated_time_is_zero_before_the_first_message(simulated):
    assert simulated.is_simulated
    assert simulated.now_ns() == 0


def test_simulated_time_is_fresh_although_nothing_spins_the_node(simulated, set_clock):
    for now_ns in (5 * SECOND_NS, 6 * SECOND_NS + 7, 2 * SECOND_NS):
        set_clock(now_ns, simulated)
        assert simulated.now_ns() == now_ns


def test_clock_serves_several_threads(simulated, set_clock, wait_until):
    """Each hears of every time, and none is told an earlier one than before."""
    set_clock(SECOND_NS, simulated)
    is_over = threading.Event()
    seen = [[] for _ in range(3)]

    def read(times):
        while not is_over.wait(0.001):
            times.append(simulated.now_ns())

    threads = [threading.Thread(target=read, args=(times,)) for times in seen]
    for thread in threads:
        thread.start()
    for step in range(2, 12):
        set_clock(step * SECOND_NS, simulated)
        wait_until(
            lambda now_ns=step * SECOND_NS: all(t and t[-1] == now_ns for t in seen),
            "all threads to see the time",
        )
    is_over.set()
    for thread in threads:
        thread.join()
    for times in seen:
        assert times == sorted(times)


def test_a_steady_timer_goes_on_where_no_clock_is_published(make_node, wait_until):
    other = make_node("stopped", parameter_overrides=[Parameter("use_sim_time", value=True)])
    fired = []
    other.create_timer(0.001, lambda: fired.append("simulated"))
    other.create_timer(0.01, lambda: fired.append("steady"), clock=steady_clock())
    executor = rclpy.executors.SingleThreadedExecutor(context=other.context)
    executor.add_node(other)
    wait_until(lambda: executor.spin_once(timeout_sec=0.01) or len(fired) > 2, "the timer")
    executor.shutdown()
    assert set(fired) == {"steady"}
