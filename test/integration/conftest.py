# SPDX-License-Identifier: MIT
"""Hear what a running graph says."""

import os
import time

import pytest

from vla_ros.graph import graph_environment

# A test hears nodes as those of a graph hear each other; Fast DDS reads this once in a process.
os.environ.update(graph_environment())

PATIENCE_S = 120.0


class Listener:
    """A node beside a graph that keeps every message of some topics.

    Args:
        domain: Domain of the graph.
        topics: Message type and topic of every source, by a name.

    Attributes:
        node: The node, which nobody spins.
        heard: The messages of every source, the oldest first.
    """

    def __init__(self, domain, topics):
        import rclpy
        from rclpy.qos import QoSProfile

        from vla_ros.polled_subscription import PolledSubscription

        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self.node = rclpy.create_node("listener", context=self._context)
        self._sources = {
            name: PolledSubscription(self.node, kind, topic, QoSProfile(depth=1000))
            for name, (kind, topic) in topics.items()
        }
        self.heard = {name: [] for name in topics}

    def last(self, name):
        """Return the newest message of a source, None before the first."""
        return self.heard[name][-1] if self.heard[name] else None

    def mode(self):
        """Return what the arm is doing, as the source `command` says; None before the first."""
        return None if self.last("command") is None else self.last("command").mode

    def listen_until(self, condition, what):
        """Return the first true value of a condition, asked after whatever has come."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for name, source in self._sources.items():
                self.heard[name] += source.take_all()
            if value := condition():
                return value
            if time.monotonic() > deadline:
                said = {name: getattr(self.last(name), "reason", None) for name in self.heard}
                pytest.fail(f"waited in vain for {what}; last reasons: {said}")
            time.sleep(0.005)

    def call(self, kind, service, request):
        """Call a service and return its answer."""
        from rclpy.executors import SingleThreadedExecutor

        client = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout_sec=PATIENCE_S), service
        executor = SingleThreadedExecutor(context=self.node.context)
        executor.add_node(self.node)
        future = client.call_async(request)
        executor.spin_until_future_complete(future, timeout_sec=PATIENCE_S)
        executor.shutdown()
        self.node.destroy_client(client)
        assert future.done(), f"service {service} did not answer"
        return future.result()

    def close(self):
        self.node.destroy_node()
        self._context.try_shutdown()


@pytest.fixture(scope="session")
def open_listener():
    """`open_listener(domain, name=(type, topic), ...)`; whoever opens one closes it."""
    return lambda domain, **topics: Listener(domain, topics)
