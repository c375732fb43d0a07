# SPDX-License-Identifier: MIT
"""A ROS domain of its own for every test, and nodes as real processes in it."""

import signal
import subprocess
import sys
import time

import pytest

from vla_ros.private_domain import private_domain

_PATIENCE_S = 60.0


def _wait_until(condition, what, patience_s=_PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience_s} s in vain for {what}")
        time.sleep(0.01)
    return value


@pytest.fixture
def wait_until():
    """`wait_until(condition, what)` returns its first true value, or fails if it never comes."""
    return _wait_until


class NodeProcess:
    """One node of vla_ros as a process; its output is in `output()`."""

    def __init__(self, name, arguments, log_path):
        self._log_path = log_path
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"vla_ros.nodes.{name}", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def output(self):
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def send(self, signal_number):
        self.process.send_signal(signal_number)

    def wait(self):
        return self.process.wait(timeout=_PATIENCE_S)

    def stop(self):
        """End the node as Ctrl-C does and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture
def ros_domain():
    """Reserve a domain that no other test on this machine uses, and set the environment."""
    with private_domain() as domain:
        yield domain


@pytest.fixture
def node(ros_domain):
    """A node in this process that no executor spins."""
    import rclpy

    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=ros_domain)
    node = rclpy.create_node("test_node", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


@pytest.fixture
def start_node(ros_domain, tmp_path):
    """Start nodes by executable name with ROS arguments; all are ended after the test."""
    started = []

    def start(name, *ros_arguments):
        arguments = ["--ros-args", *ros_arguments] if ros_arguments else []
        log_path = tmp_path / f"{name}_{len(started)}.log"
        started.append(NodeProcess(name, arguments, log_path))
        return started[-1]

    yield start
    for process in reversed(started):
        process.stop()


@pytest.fixture
def call_service(node):
    """Call a service of a node under test and return its response."""
    from rclpy.executors import SingleThreadedExecutor

    def call(service_type, name, request):
        client = node.create_client(service_type, name)
        _wait_until(client.service_is_ready, f"service {name}")
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        future = client.call_async(request)
        executor.spin_until_future_complete(future, timeout_sec=_PATIENCE_S)
        executor.shutdown()
        node.destroy_client(client)
        assert future.done(), f"service {name} did not answer"
        return future.result()

    return call


@pytest.fixture(scope="session")
def untrained_checkpoint(tmp_path_factory):
    """A small GR00T checkpoint for the table-top arm that moves it somewhere within its limits."""
    import numpy as np

    from vla_core.models.frameworks import GR00TVLA
    from vla_core.models.vlm import get_vlm
    from vla_core.processing.contract import load_contract
    from vla_core.processing.normalization import Statistics
    from vla_core.processing.pipeline import ProcessingPipeline
    from vla_core.sim.scene import HOME

    contract = load_contract("tabletop")
    limits = contract.action_limits.values()
    reach = np.random.default_rng(0).uniform(-0.3, 0.3, (100, len(HOME))) + HOME
    states = reach.clip([limit.lower for limit in limits], [limit.upper for limit in limits])
    statistics = Statistics.from_array(states)
    model = GR00TVLA(
        get_vlm("tiny"),
        action_dim=len(contract.action.joints),
        state_dim=len(contract.state.joints),
        num_cameras=len(contract.cameras),
        chunk_size=16,
        hidden_dim=32,
        sampler="ddim",
        inference_steps=2,
    )
    directory = tmp_path_factory.mktemp("untrained")
    model.save_pretrained(directory)
    ProcessingPipeline(contract, statistics, statistics).save(directory)
    return directory
