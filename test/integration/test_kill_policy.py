# SPDX-License-Identifier: MIT
"""kill -9 of the policy during a motion: the arm comes to rest within its limits, then goes on.

Real processes through the supervisor, with an untrained policy that moves the arm somewhere.
"""

import dataclasses
import signal
import time

import numpy as np
import pytest

from vla_core.processing.contract import load_contract
from vla_core.sim.scene import HOME
from vla_ros.graphs import get_graph
from vla_ros.private_domain import private_domain
from vla_ros.supervisor import Supervisor

pytestmark = pytest.mark.ros

PATIENCE_S = 120.0
CONTRACT = load_contract("sim")
JOINTS = CONTRACT.action.joints
INSTRUCTION = "pick up the blue block"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small untrained GR00T for the table-top arm."""
    from vla_core.models.frameworks import GR00TVLA
    from vla_core.models.vlm import get_vlm
    from vla_core.processing.normalization import Statistics
    from vla_core.processing.pipeline import ProcessingPipeline

    limits = CONTRACT.action_limits.values()
    reach = np.random.default_rng(0).uniform(-0.2, 0.2, (100, len(HOME))) + HOME
    states = reach.clip([limit.lower for limit in limits], [limit.upper for limit in limits])
    statistics = Statistics.from_array(states)
    model = GR00TVLA(
        get_vlm("tiny"),
        action_dim=len(JOINTS),
        state_dim=len(JOINTS),
        num_cameras=len(CONTRACT.cameras),
        chunk_size=16,
        hidden_dim=32,
        sampler="ddim",
        inference_steps=2,
    )
    directory = tmp_path_factory.mktemp("untrained")
    model.save_pretrained(directory)
    ProcessingPipeline(CONTRACT, statistics, statistics).save(directory)
    return directory


class Watcher:
    """Hears what the graph says."""

    def __init__(self, node):
        from sensor_msgs.msg import JointState
        from trajectory_msgs.msg import JointTrajectory
        from vla_msgs.msg import ActionChunk, CommandStatus, SimStatus

        from vla_ros.conversions import status_qos
        from vla_ros.polled_subscription import PolledSubscription

        def listen(kind, topic):
            return PolledSubscription(node, kind, topic, status_qos())

        self._sources = {
            "state": listen(JointState, "joint_states"),
            "trajectory": listen(JointTrajectory, CONTRACT.command.topic),
            "chunk": listen(ActionChunk, "action_chunk"),
            "command": listen(CommandStatus, "command_node/status"),
            "sim": listen(SimStatus, "sim_robot_node/status"),
        }
        self.heard = {name: [] for name in self._sources}

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

    def last(self, name):
        return self.heard[name][-1] if self.heard[name] else None

    def instruction(self):
        chunk = self.last("chunk")
        return None if chunk is None else chunk.instruction

    def mode(self):
        status = self.last("command")
        return None if status is None else status.mode

    def speed(self):
        """Return the highest measured joint speed."""
        state = self.last("state")
        return 0.0 if state is None else float(np.abs(state.velocity).max())


def say(node, instruction):
    """Give the policy an instruction, as `vla say` does."""
    from rclpy.executors import SingleThreadedExecutor
    from vla_msgs.srv import SetInstruction

    client = node.create_client(SetInstruction, "policy_node/set_instruction")
    assert client.wait_for_service(timeout_sec=PATIENCE_S)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    future = client.call_async(SetInstruction.Request(instruction=instruction))
    executor.spin_until_future_complete(future, timeout_sec=PATIENCE_S)
    executor.shutdown()
    assert future.result().success


@pytest.fixture(scope="module")
def story(checkpoint):
    """Kill the policy in the middle of a motion, start it again, and keep what was heard."""
    import rclpy
    from vla_msgs.msg import CommandStatus

    specs = [
        # With frozen steps an untrained policy may settle, and there would be no motion to end.
        dataclasses.replace(
            spec, on_exit="continue", parameters={**spec.parameters, "chunking": "off"}
        )
        if spec.name == "policy_node"
        else spec
        for spec in get_graph("groot").nodes({"checkpoint": str(checkpoint)})
    ]
    with private_domain() as domain, Supervisor(specs) as graph:
        context = rclpy.Context()
        rclpy.init(args=[], context=context, domain_id=domain)
        node = rclpy.create_node("watcher", context=context)
        watcher = Watcher(node)
        pids = {name: graph.pid_of(name) for name in graph.names}
        watcher.listen_until(
            lambda: watcher.mode() == CommandStatus.EXECUTING and watcher.speed() > 0.05,
            "a motion",
        )
        say(node, INSTRUCTION)
        watcher.listen_until(
            lambda: (
                watcher.instruction() == INSTRUCTION
                and watcher.mode() == CommandStatus.EXECUTING
                and watcher.speed() > 0.05
            ),
            "the motion of the other instruction",
        )
        graph.kill("policy_node", signal.SIGKILL)
        watcher.listen_until(lambda: not graph.is_alive("policy_node"), "the death of the policy")
        num_before = len(watcher.heard["command"])
        watcher.listen_until(lambda: watcher.mode() == CommandStatus.HOLDING, "a hold")
        reason = watcher.last("command").reason
        modes = [status.mode for status in watcher.heard["command"][num_before:]]
        watcher.listen_until(lambda: watcher.speed() < 0.01, "the arm at rest")
        resting = np.array(watcher.last("state").position)
        num_states = len(watcher.heard["state"])
        watcher.listen_until(lambda: len(watcher.heard["state"]) > num_states + 50, "a pause")
        rested = [np.array(state.position) for state in watcher.heard["state"][num_states:]]
        alive = {name: graph.is_alive(name) for name in graph.names}
        graph.restart("policy_node")
        watcher.listen_until(
            lambda: watcher.mode() == CommandStatus.EXECUTING and watcher.speed() > 0.05,
            "the motion after the restart",
        )
        yield {
            "modes": modes,
            "reason": reason,
            "resting": resting,
            "rested": rested,
            "alive": alive,
            "pids_before": pids,
            "pids_after": {name: graph.pid_of(name) for name in graph.names},
            "heard": watcher.heard,
        }
        node.destroy_node()
        context.try_shutdown()


def test_the_arm_stops_and_then_holds(story):
    from vla_msgs.msg import CommandStatus

    modes = [mode for mode in story["modes"] if mode != CommandStatus.EXECUTING]
    assert modes[0] == CommandStatus.STOPPING
    assert modes[-1] == CommandStatus.HOLDING


def test_the_reason_names_the_old_chunk(story):
    assert "the observation of the newest chunk is" in story["reason"]


def test_the_arm_stays_where_it_came_to_rest(story):
    moved = max(np.abs(position - story["resting"]).max() for position in story["rested"])
    assert moved < 0.01


def test_nothing_else_dies(story):
    assert story["alive"] == {
        "sim_robot_node": True,
        "policy_node": False,
        "command_node": True,
    }
    for name in ("sim_robot_node", "command_node"):
        assert story["pids_after"][name] == story["pids_before"][name]


def test_motion_goes_on_with_a_new_policy_process(story):
    assert story["pids_after"]["policy_node"] != story["pids_before"]["policy_node"]


def test_the_new_process_follows_the_instruction_of_the_dead_one(story):
    assert story["heard"]["chunk"][-1].instruction == INSTRUCTION


def test_no_trajectory_is_rejected(story):
    status = story["heard"]["sim"][-1]
    assert status.accepted_trajectories > 0
    assert (status.rejected_trajectories, status.last_rejection) == (0, "")


def test_no_command_leaves_the_limits(story):
    limits = [CONTRACT.limits[joint] for joint in JOINTS]
    lower, upper = [x.lower for x in limits], [x.upper for x in limits]
    points = [point for message in story["heard"]["trajectory"] for point in message.points]
    positions = np.array([point.positions for point in points])
    velocities = np.array([point.velocities for point in points])
    # The first command of a motion is the measured position, which may be out of range a little.
    assert np.all(positions >= np.array(lower) - 1e-3)
    assert np.all(positions <= np.array(upper) + 1e-3)
    assert np.all(np.abs(velocities) <= np.array([x.velocity for x in limits]) + 1e-9)


def test_no_trajectory_decelerates_faster_than_the_limits(story):
    allowed = np.array([CONTRACT.limits[joint].acceleration for joint in JOINTS])
    for message in story["heard"]["trajectory"]:
        velocities = np.array([point.velocities for point in message.points])
        steps = np.abs(np.diff(velocities, axis=0)) / CONTRACT.command.dt_s
        assert np.all(steps <= allowed + 1e-6)
