# SPDX-License-Identifier: MIT
"""Each tier of Helix killed and started again alone: the arm holds, says why, and goes on."""

import signal
import time

import pytest

from vla_core.processing.contract import load_contract
from vla_ros.graphs import get_graph
from vla_ros.private_domain import private_domain
from vla_ros.supervisor import Supervisor

pytestmark = pytest.mark.ros

PATIENCE_S = 120.0
CONTRACT = load_contract("sim_200hz")
RESTING_SPEED = 0.02


class Listener:
    """Hears what the tiers say."""

    def __init__(self, domain):
        import rclpy
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import JointState
        from vla_msgs.msg import ActionChunk, CommandStatus, LatentPlan, PolicyStatus

        from vla_ros.polled_subscription import PolledSubscription

        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        node = rclpy.create_node("listener", context=self._context)
        self._sources = {
            name: PolledSubscription(node, kind, topic, QoSProfile(depth=1000))
            for name, kind, topic in (
                ("plan", LatentPlan, "latent_plan"),
                ("chunk", ActionChunk, "action_chunk"),
                ("policy", PolicyStatus, "policy_node/status"),
                ("command", CommandStatus, "command_node/status"),
                ("joints", JointState, CONTRACT.state.topic),
            )
        }
        self.heard = {name: [] for name in self._sources}

    def last(self, name):
        return self.heard[name][-1] if self.heard[name] else None

    def listen_until(self, condition, what):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for name, source in self._sources.items():
                while (message := source.take_next()) is not None:
                    self.heard[name].append(message)
            if condition():
                return
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.005)

    def forget(self):
        for messages in self.heard.values():
            messages.clear()

    def mode(self):
        return None if self.last("command") is None else self.last("command").mode

    def is_at_rest(self):
        joints = self.last("joints")
        return joints is not None and max(map(abs, joints.velocity)) < RESTING_SPEED

    def close(self):
        self._context.try_shutdown()


@pytest.fixture(scope="module")
def running():
    """The whole graph, with its supervisor and a listener."""
    with private_domain() as domain:
        listener = Listener(domain)
        with Supervisor(get_graph("helix").nodes()) as supervisor:
            yield supervisor, listener
        listener.close()


@pytest.fixture
def helix(running):
    """The graph while the arm follows its policy."""
    from vla_msgs.msg import CommandStatus

    supervisor, listener = running
    listener.listen_until(lambda: listener.mode() == CommandStatus.EXECUTING, "a moving arm")
    listener.forget()
    return supervisor, listener


def assert_it_goes_on(listener, *, after):
    from vla_msgs.msg import CommandStatus

    listener.forget()
    listener.listen_until(
        lambda: listener.mode() == CommandStatus.EXECUTING and listener.last("chunk"), after
    )
    chunk = listener.last("chunk")
    assert chunk.checkpoint_id
    assert chunk.plan_sequence > 0


def test_without_the_planner_the_arm_holds_and_the_policy_says_that_its_plan_is_old(helix):
    from vla_msgs.msg import CommandStatus, PolicyStatus

    supervisor, listener = helix
    before = supervisor.pid_of("policy_node"), supervisor.pid_of("command_node")
    supervisor.kill("planner_node", signal.SIGKILL)
    listener.listen_until(lambda: listener.mode() == CommandStatus.HOLDING, "a holding arm")
    listener.listen_until(listener.is_at_rest, "an arm at rest")
    reasons = [s.reason for s in listener.heard["policy"] if s.state == PolicyStatus.WAITING]
    assert any("older than the observation, at most 0.4 s" in reason for reason in reasons)
    assert_it_goes_on(listener, after="commands after the planner's return")
    assert (supervisor.pid_of("policy_node"), supervisor.pid_of("command_node")) == before


def test_without_the_policy_the_arm_holds_until_it_is_back_with_plans_of_its_new_epoch(helix):
    from vla_msgs.msg import CommandStatus

    supervisor, listener = helix
    listener.listen_until(lambda: listener.last("chunk"), "a chunk")
    before, epoch = supervisor.pid_of("planner_node"), listener.last("chunk").epoch
    supervisor.kill("policy_node", signal.SIGKILL)
    listener.listen_until(lambda: listener.mode() == CommandStatus.HOLDING, "a holding arm")
    assert "old, at most 0.6 s is allowed" in listener.last("command").reason
    listener.listen_until(listener.is_at_rest, "an arm at rest")
    assert_it_goes_on(listener, after="commands after the policy's return")
    assert listener.last("chunk").epoch > epoch
    listener.listen_until(lambda: listener.last("plan"), "a plan")
    assert listener.last("plan").epoch == listener.last("chunk").epoch
    assert supervisor.pid_of("planner_node") == before


def test_without_the_command_loop_the_arm_comes_to_rest_until_it_is_back(helix):
    supervisor, listener = helix
    before = supervisor.pid_of("policy_node")
    killed = supervisor.pid_of("command_node")
    supervisor.kill("command_node", signal.SIGKILL)
    listener.listen_until(lambda: not supervisor.is_alive("command_node"), "its end")
    listener.forget()
    listener.listen_until(listener.is_at_rest, "an arm at rest")
    assert_it_goes_on(listener, after="commands after the command loop's return")
    assert supervisor.pid_of("command_node") != killed
    assert supervisor.pid_of("policy_node") == before
