# SPDX-License-Identifier: MIT
"""A ROS domain of its own for every test, and nodes as real processes in it."""

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from vla_ros.graph import graph_environment
from vla_ros.private_domain import private_domain

# A test hears nodes as those of a graph hear each other; Fast DDS reads this once in a process.
os.environ.update(graph_environment())

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
    if gc.get_freeze_count():
        # A node of this process has frozen what there was, itself and its participant included;
        # and more than some thirty participants of one machine do not find each other.
        gc.unfreeze()
        gc.collect()


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


class Robot:
    """A table-top arm that goes where it is told, with a policy's chunks beside it."""

    def __init__(self, node, contract, start):
        from sensor_msgs.msg import JointState
        from trajectory_msgs.msg import JointTrajectory
        from vla_msgs.msg import ActionChunk, CommandStatus

        from vla_core.sim.trajectory_controller import TrajectoryController
        from vla_ros.conversions import command_qos, sensor_publisher_qos, status_qos
        from vla_ros.polled_subscription import PolledSubscription

        self._joints = contract.action.joints
        self._clock = node.get_clock()
        self._states = node.create_publisher(JointState, "joint_states", sensor_publisher_qos())
        self._leader = node.create_publisher(
            JointState, "teleop_joint_states", sensor_publisher_qos()
        )
        self._chunks = node.create_publisher(ActionChunk, "action_chunk", command_qos())
        self._trajectories = PolledSubscription(
            node, JointTrajectory, contract.command.topic, status_qos()
        )
        every_status = status_qos()
        every_status.depth = 1000  # This process may get no processor for a while.
        self._status = PolledSubscription(node, CommandStatus, "command_node/status", every_status)
        self.sequence = itertools.count(1)
        self.controller = TrajectoryController(self._joints, start)
        self.position = self.start = start
        self.goal = np.add(start, [0.2, 0.1, -0.1, 0.1, 0.0, -0.2, 0.0])
        self.trajectories = []
        self.statuses = []

    @property
    def status(self):
        return self.statuses[-1] if self.statuses else None

    @property
    def now_ns(self):
        return self._clock.now().nanoseconds

    def step(self, measures=True):
        """Take what has come, move, report the joint states; rejections raise."""
        from vla_ros.conversions import joint_state_message

        while (trajectory := self._trajectories.take_next()) is not None:
            self.controller.replace(trajectory, self.now_ns)
            self.trajectories.append(trajectory)
        self.statuses += self._status.take_all()
        self.position, velocity = self.controller.sample(self.now_ns)
        if measures:
            self._states.publish(
                joint_state_message(self._joints, self.position, velocity, stamp_ns=self.now_ns)
            )

    def send_chunk(self, goal=None, epoch=1, **changes):
        from vla_core.types import ActionChunk
        from vla_ros.conversions import action_chunk_message

        now_ns = self.now_ns
        ramp = np.linspace(0.0, 1.0, 17)[1:, None]
        goal = self.goal if goal is None else np.asarray(goal)
        actions = self.start + ramp * (goal - self.start)
        values = {
            "actions": actions,
            "policy_actions": np.zeros(actions.shape, dtype=np.float32),
            "joints": self._joints,
            "dt_s": 0.1,
            "stamp_ns": now_ns,
            "checkpoint_id": "test",
            "instruction": "move",
        }
        self._chunks.publish(
            action_chunk_message(
                ActionChunk(**{**values, **changes}),
                sequence=next(self.sequence),
                epoch=epoch,
                inference_start_ns=now_ns,
                generation_ns=now_ns,
                image_stamps_ns={},
                state_stamp_ns=now_ns,
            )
        )

    def lead(self, positions):
        """Publish what a leader arm would."""
        from vla_ros.conversions import joint_state_message

        still = np.zeros(len(self._joints))
        self._leader.publish(
            joint_state_message(self._joints, positions, still, stamp_ns=self.now_ns)
        )

    def revoke(self, epoch):
        from vla_ros.conversions import revocation_message

        self._chunks.publish(
            revocation_message(epoch=epoch, checkpoint_id="test", stamp_ns=self.now_ns)
        )

    def is_in(self, mode, reason="", **step):
        self.step(**step)
        return self.status and self.status.mode == mode and reason in self.status.reason


@pytest.fixture
def robot(node):
    """A robot of the table-top contract, at home."""
    from vla_core.processing.contract import load_contract
    from vla_core.sim.arm_model import HOME

    return Robot(node, load_contract("sim"), np.asarray(HOME, dtype=np.float64))


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


@pytest.fixture
def executor(node):
    """An executor that spins the node of the test."""
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    yield executor
    executor.shutdown()


@pytest.fixture(scope="session")
def untrained_checkpoint(tmp_path_factory):
    """A small GR00T checkpoint for the table-top arm that moves it somewhere within its limits."""
    from vla_core.models.frameworks import GR00TVLA
    from vla_core.models.vlm import get_vlm
    from vla_core.processing.contract import load_contract
    from vla_core.processing.normalization import Statistics
    from vla_core.processing.pipeline import ProcessingPipeline
    from vla_core.sim.arm_model import HOME

    contract = load_contract("sim")
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


class TabletopRobot:
    """Publishes what a robot publishes, and hears what the policy says.

    Attributes:
        frames: What each camera shows, uint8 [H, W, 3].
        encoding: What the camera messages say.
    """

    def __init__(self, node):
        import numpy as np
        from sensor_msgs.msg import Image, JointState
        from vla_msgs.msg import ActionChunk, PolicyStatus

        from vla_core.processing.contract import load_contract
        from vla_ros.conversions import command_qos, sensor_publisher_qos, status_qos
        from vla_ros.polled_subscription import PolledSubscription

        contract = load_contract("sim")
        self._joints = contract.state.joints
        self.frames = {
            name: np.random.default_rng(index).integers(0, 256, (192, 192, 3), dtype=np.uint8)
            for index, name in enumerate(contract.cameras)
        }
        self._clock = node.get_clock()
        self._cameras = {
            name: node.create_publisher(Image, camera.topic, sensor_publisher_qos())
            for name, camera in contract.cameras.items()
        }
        self._states = node.create_publisher(
            JointState, contract.state.topic, sensor_publisher_qos()
        )
        self._chunks = PolledSubscription(node, ActionChunk, "action_chunk", command_qos())
        self._status = PolledSubscription(node, PolicyStatus, "policy_node/status", status_qos())
        self.encoding = "rgb8"
        self.last_status = None

    def publish(self, cameras=("front", "wrist")):
        import numpy as np

        from vla_core.sim.arm_model import HOME
        from vla_ros.conversions import image_message, joint_state_message

        now_ns = self._clock.now().nanoseconds
        for name in cameras:
            message = image_message(self.frames[name], stamp_ns=now_ns)
            message.encoding = self.encoding
            self._cameras[name].publish(message)
        order = [3, 1, 6, 0, 2, 5, 4]
        self._states.publish(
            joint_state_message(
                [self._joints[index] for index in order],
                np.asarray(HOME)[order],
                np.zeros(7),
                stamp_ns=now_ns,
            )
        )

    def chunk(self, **publish):
        self.publish(**publish)
        return self._chunks.take()

    def status(self, **publish):
        self.publish(**publish)
        return self.quiet_status()

    def quiet_status(self):
        newest = self._status.take()
        if newest is not None:
            self.last_status = newest
        return self.last_status

    def status_in(self, state, reason="", **publish):
        status = self.status(**publish)
        return status if status and status.state == state and reason in status.reason else None


@pytest.fixture
def observed_robot(node):
    """A robot at rest whose topics the test publishes."""
    return TabletopRobot(node)


@pytest.fixture
def start_policy(ros_domain, untrained_checkpoint, monkeypatch):
    """Start policy_node in this process, spun by a thread."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from vla_ros import inference_loop
    from vla_ros.nodes.policy_node import PolicyNode

    # No policy was before it that it could come after.
    monkeypatch.setattr(inference_loop, "_DISCOVERY_S", 0.0)
    started = []

    def start(is_active=True, **parameters):
        values = {
            "checkpoint": str(untrained_checkpoint),
            "instruction": "pick up the red block",
            **parameters,
        }
        arguments = [word for k, v in values.items() for word in ("-p", f"{k}:={json.dumps(v)}")]
        rclpy.init(args=["--ros-args", *arguments], domain_id=ros_domain)
        node = PolicyNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin)
        thread.start()
        started.append((node, executor, thread))
        if is_active:
            node.bring_up()
        return node

    yield start
    while started:
        node, executor, thread = started.pop()
        node.tear_down()
        executor.shutdown()
        thread.join()
        node.destroy_node()
        del node, executor, thread
    rclpy.try_shutdown()
