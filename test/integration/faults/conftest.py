# SPDX-License-Identifier: MIT
"""A graph of real processes around an arm whose messages a test can spoil."""

import dataclasses
import itertools
import math
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from vla_core.inference.motion import COMMIT_S
from vla_core.processing.contract import load_contract
from vla_core.sim.arm_model import HOME
from vla_ros.graphs import get_graph
from vla_ros.private_domain import private_domain
from vla_ros.supervisor import Supervisor

MOVING_SPEED, RESTING_SPEED = 0.05, 0.02
STEP_S = 0.01
STEPS_PER_JOINT_STATE, STEPS_PER_FRAME = 2, 7
NUM_TRIES = 5
TASK = "pick up the red block"
POISON = "cracked"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small untrained GR00T that moves the arm, unless the instruction has the word `cracked`.

    That word makes it predict NaN.
    """
    import torch

    from vla_core.models.frameworks import GR00TVLA
    from vla_core.models.vlm import get_vlm
    from vla_core.processing.normalization import Statistics
    from vla_core.processing.pipeline import ProcessingPipeline

    contract = load_contract("sim")
    limits = contract.action_limits.values()
    reach = np.random.default_rng(0).uniform(-0.2, 0.2, (100, len(HOME))) + HOME
    states = reach.clip([limit.lower for limit in limits], [limit.upper for limit in limits])
    statistics = Statistics.from_array(states)
    vlm = get_vlm("tiny")
    with torch.no_grad():
        vlm.word_embedding.weight[vlm.hash_words([POISON])[0, 0]] = torch.nan
    model = GR00TVLA(
        vlm,
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


def unspoilt(source, message):
    return message


class Robot:
    """Two cameras and an arm that goes where it is told, in a thread of its own.

    Args:
        node: Node that publishes; not spun.
        has_clock: Whether it publishes /clock, too.

    Attributes:
        spoil: Given `joints`, `front` or `wrist` and a message, returns what is published; None:
            nothing.
        rejections: What the arm's controller has refused, but for what came too late.
    """

    def __init__(self, node, *, has_clock=False):
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import Image, JointState
        from trajectory_msgs.msg import JointTrajectory

        from vla_core.sim.trajectory_controller import TrajectoryController
        from vla_ros.conversions import sensor_publisher_qos, status_qos
        from vla_ros.polled_subscription import PolledSubscription

        contract = load_contract("sim")
        self.joints = contract.action.joints
        self.spoil = unspoilt
        self.rejections = []
        self._wall = node.get_clock()
        self._ahead_ns = self._jump_ns = 0
        self._clock = node.create_publisher(Clock, "/clock", 10) if has_clock else None
        self._publishers = {
            name: node.create_publisher(Image, camera.topic, sensor_publisher_qos())
            for name, camera in contract.cameras.items()
        }
        self._cameras = tuple(self._publishers)
        self._publishers["joints"] = node.create_publisher(
            JointState, contract.state.topic, sensor_publisher_qos()
        )
        self._frames = np.random.default_rng(0).integers(0, 256, (8, 192, 192, 3), dtype=np.uint8)
        self._trajectories = PolledSubscription(
            node, JointTrajectory, contract.command.topic, status_qos()
        )
        self._controller = TrajectoryController(self.joints, HOME)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def now_ns(self):
        return self._wall.now().nanoseconds + self._ahead_ns

    def set_clock(self, ahead_s):
        """Set the clock forward, or back; the arm stays where it is."""
        self._jump_ns = round(ahead_s * 1e9)

    def stop(self):
        self._is_over.set()
        self._thread.join()

    def _live(self):
        for step in itertools.count():
            if self._is_over.wait(STEP_S):
                return
            self._step(step)

    def _step(self, step):
        from rosgraph_msgs.msg import Clock

        from vla_core.sim.trajectory_controller import TrajectoryRejectedError
        from vla_ros.conversions import image_message, joint_state_message, time_message

        if self._jump_ns:
            self._controller.hold(self._controller.sample(self.now_ns())[0])
            self._ahead_ns, self._jump_ns = self._ahead_ns + self._jump_ns, 0
        now_ns = self.now_ns()
        if self._clock is not None:
            self._clock.publish(Clock(clock=time_message(now_ns)))
        if (trajectory := self._trajectories.take()) is not None:
            try:
                self._controller.replace(trajectory, now_ns)
            except TrajectoryRejectedError as error:
                # On a busy machine this robot may hear of one when it has ended.
                if error.cause != "past":
                    self.rejections.append(str(error))
        position, velocity = self._controller.sample(now_ns)
        if step % STEPS_PER_JOINT_STATE == 0:
            self._publish(
                "joints", joint_state_message(self.joints, position, velocity, stamp_ns=now_ns)
            )
        if step % STEPS_PER_FRAME == 0:
            for index, name in enumerate(self._cameras):
                frame = self._frames[(step // STEPS_PER_FRAME + index) % len(self._frames)]
                self._publish(name, image_message(frame, stamp_ns=now_ns))

    def _publish(self, source, message):
        spoilt = self.spoil(source, message)
        if spoilt is not None:
            self._publishers[source].publish(spoilt)


class Arm:
    """An arm under the command of a graph.

    Args:
        contract: Its contract.
        graph: The supervisor of the graph.
        listener: Hears `command`, `policy`, `chunk`, `joints` and `diagnostics`.
        robot: The robot, where it is none of the graph's processes.

    Attributes:
        num_committed: Periods that a plan keeps of the one before: a stop begins after them.
    """

    def __init__(self, contract, graph, listener, robot=None):
        self.contract = contract
        self.graph = graph
        self.listener = listener
        self.robot = robot
        self.num_committed = math.ceil(COMMIT_S / contract.command.dt_s - 1e-9)
        self._pids, self._marks = {}, {}

    def new(self, name):
        """Return what a source has said since `mark`."""
        return self.listener.heard[name][self._marks[name] :]

    def mark(self):
        """Begin to look, with the newest tick as the first."""
        self._marks = {name: len(messages) for name, messages in self.listener.heard.items()}
        self._marks["command"] = max(0, self._marks["command"] - 1)
        self._pids = {name: self.graph.pid_of(name) for name in self.graph.names}

    def is_moving(self):
        from vla_msgs.msg import CommandStatus

        # The motion of an untrained Helix may be a small one.
        speed = MOVING_SPEED if self.robot is not None else 0.0
        return self.listener.mode() == CommandStatus.EXECUTING and self._speed() > speed

    def is_at_rest(self):
        return self._speed() < RESTING_SPEED

    def _speed(self):
        state = self.listener.last("joints")
        return 0.0 if state is None else float(np.abs(state.velocity).max())

    def wait_for(self, condition, what):
        return self.listener.listen_until(condition, what)

    def wait_for_motion(self):
        """Begin to look with an arm that moves now, whatever was said meanwhile."""
        ticks = self.listener.heard["command"]
        self.wait_for(lambda: True, "what was said meanwhile")
        num_ticks = len(ticks)
        self.wait_for(lambda: len(ticks) > num_ticks and self.is_moving(), "a moving arm")
        self.mark()

    def say(self, instruction):
        """Give the policy an instruction, as `vla say` does."""
        from vla_msgs.srv import SetInstruction

        request = SetInstruction.Request(instruction=instruction)
        response = self.listener.call(SetInstruction, "policy_node/set_instruction", request)
        assert response.success
        return response.epoch

    def stop(self, because):
        """Return the ticks of a stop: the one before, and those until the arm moves no more.

        None if the arm was at rest already.
        """
        from vla_msgs.msg import CommandStatus

        def because_of_it(tick, mode):
            return tick.mode == mode and because in tick.reason

        self.wait_for(
            lambda: any(because_of_it(t, CommandStatus.HOLDING) for t in self.new("command")),
            f"a hold: {because}",
        )
        ticks = self.new("command")
        begins = (i for i, t in enumerate(ticks) if because_of_it(t, CommandStatus.STOPPING))
        first = next(begins, None)
        if first is None:
            return None
        stop = itertools.takewhile(lambda t: t.mode == CommandStatus.STOPPING, ticks[first:])
        return [ticks[first - 1], *stop]

    def assert_stops(self, because, *, undo=None, redo=None):
        """The arm decelerates to rest, for a reason that it tells; return the ticks of the stop.

        Where a busy machine had stopped the arm for another reason, it is tried again.

        Args:
            because: Part of the reason.
            undo: Ends the fault, so that the arm moves again; None: the messages are spoilt.
            redo: Begins it again.
        """
        from vla_msgs.msg import CommandStatus

        ticks = self.stop(because)
        for _ in range(NUM_TRIES):
            if ticks is not None or self.robot is None:
                break
            spoil, self.robot.spoil = self.robot.spoil, unspoilt
            if undo is not None:
                undo()
            self.wait_for_motion()
            if redo is not None:
                redo()
            self.robot.spoil = spoil
            ticks = self.stop(because)
        assert ticks is not None, f"the arm was at rest before: {because}"
        before, *stopping = ticks
        assert before.mode == CommandStatus.EXECUTING
        # What was committed before comes first.
        begin_s = (self.num_committed - 0.5) * self.contract.command.dt_s
        slowing = [tick for tick in stopping if _seconds(stopping[0], tick) > begin_s]
        speeds = np.abs([tick.command_velocities for tick in slowing])
        assert np.all(np.diff(speeds, axis=0) <= 1e-9)
        return ticks

    def assert_stops_in_time(self, because, *, age="chunk_age", undo=None, redo=None):
        """Deceleration begins within two periods of the age limit.

        Ticks that a busy machine has skipped do not count: that plan's tail decelerates.

        Args:
            because: Part of the reason.
            age: Field of the command status whose limit counts.
            undo: As of `assert_stops`.
            redo: As of `assert_stops`.
        """
        before, stop = self.assert_stops(because, undo=undo, redo=redo)[:2]
        part = self.contract.state if age == "joint_state_age" else self.contract.action
        period_s = self.contract.command.dt_s
        assert getattr(before, age) <= part.max_age_s
        num_skipped = round(_seconds(before, stop) / period_s) - 1
        late = (getattr(stop, age) - part.max_age_s) / period_s + self.num_committed
        assert 0.0 < late <= 2.01 + num_skipped

    def is_diagnosed(self, name, text):
        """Return whether /diagnostics has warned of a cause."""
        from diagnostic_msgs.msg import DiagnosticStatus

        return any(
            report.name == name and text in report.message
            for array in self.new("diagnostics")
            for report in array.status
            if report.level != DiagnosticStatus.OK
        )

    def assert_diagnosed(self, name, text):
        self.wait_for(lambda: self.is_diagnosed(name, text), f"a diagnostic of {name}: {text}")

    def assert_goes_on(self, *, restarted=()):
        """The arm moves again, and no process was started anew but those that are named."""
        if self.robot is not None:
            self.robot.spoil = unspoilt
        pids = self._pids
        self.wait_for_motion()
        assert {name for name in pids if pids[name] != self._pids[name]} == set(restarted)
        assert all(self.graph.is_alive(name) for name in self.graph.names)
        assert self.robot is None or self.robot.rejections == []


def _seconds(before, after):
    from vla_core.processing.messages import stamp_ns

    return (stamp_ns(after) - stamp_ns(before)) * 1e-9


@pytest.fixture(scope="session")
def run_arm(open_listener, checkpoint):
    """`with run_arm() as arm:` runs policy_node and command_node for a robot of the test."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import JointState
    from trajectory_msgs.msg import JointTrajectory
    from vla_msgs.msg import ActionChunk, CommandStatus, PolicyStatus

    @contextmanager
    def run(graph="groot", *, has_clock=False, has_robot=True, **arguments):
        contract = load_contract(get_graph(graph).resolve(arguments)["robot"])
        if has_robot:
            arguments.update(robot_sim="false", checkpoint=str(checkpoint), instruction=TASK)
        specs = [
            # With frozen steps an untrained policy may settle, and there would be no motion.
            dataclasses.replace(
                spec,
                on_exit="continue" if has_robot else spec.on_exit,
                parameters={
                    **spec.parameters,
                    "use_sim_time": has_clock,
                    **({"chunking": "off"} if spec.name == "policy_node" else {}),
                },
            )
            for spec in get_graph(graph).nodes(arguments)
        ]
        with private_domain() as domain:
            listener = open_listener(
                domain,
                command=(CommandStatus, "command_node/status"),
                policy=(PolicyStatus, "policy_node/status"),
                chunk=(ActionChunk, "action_chunk"),
                joints=(JointState, contract.state.topic),
                trajectory=(JointTrajectory, contract.command.topic),
                diagnostics=(DiagnosticArray, "/diagnostics"),
            )
            robot = Robot(listener.node, has_clock=has_clock) if has_robot else None
            try:
                with Supervisor(specs) as supervisor:
                    arm = Arm(contract, supervisor, listener, robot)
                    # The arm may move seconds before everybody has found the listener.
                    arm.wait_for(lambda: all(listener.heard.values()), "a word of everybody")
                    yield arm
            finally:
                if robot is not None:
                    robot.stop()
                listener.close()

    return run


@pytest.fixture(scope="module")
def running_arm(run_arm):
    """One graph for all faults of a module after which it goes on."""
    with run_arm() as arm:
        yield arm


@pytest.fixture
def arm(running_arm):
    """The arm while it follows its policy."""
    running_arm.robot.spoil = unspoilt
    running_arm.wait_for_motion()
    return running_arm
