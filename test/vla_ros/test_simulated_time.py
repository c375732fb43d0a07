# SPDX-License-Identifier: MIT
"""command_node on /clock: commands follow simulated time, whatever its speed."""

import itertools
import time

import numpy as np
import pytest

from vla_core.processing.contract import load_contract
from vla_core.processing.messages import stamp_ns
from vla_core.sim.arm_model import HOME
from vla_core.types import ActionChunk

pytestmark = pytest.mark.ros

CONTRACT = load_contract("sim")
JOINTS = CONTRACT.action.joints
START = np.asarray(HOME, dtype=np.float64)
GOAL = np.add(START, [0.2, 0.1, -0.1, 0.1, 0.0, -0.2, 0.0])
CLOCK_STEP_NS = 5_000_000
PERIOD_NS = 20_000_000


class Simulation:
    """A /clock of any speed, with the joint states and chunks of its time."""

    def __init__(self, node):
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import JointState
        from vla_msgs.msg import ActionChunk as ActionChunkMessage
        from vla_msgs.msg import CommandStatus

        from vla_ros.conversions import command_qos, sensor_publisher_qos, status_qos
        from vla_ros.polled_subscription import PolledSubscription

        status = status_qos()
        status.depth = 1000
        self._clock = node.create_publisher(Clock, "/clock", 10)
        self._states = node.create_publisher(JointState, "joint_states", sensor_publisher_qos())
        self._chunks = node.create_publisher(ActionChunkMessage, "action_chunk", command_qos())
        self._status = PolledSubscription(node, CommandStatus, "command_node/status", status)
        self._sequence = itertools.count(1)
        self.now_ns = 100_000_000_000
        self.statuses = []

    def step(self, speed=1.0, advances=True):
        """Go on by a step of /clock; the commands that came meanwhile are followed perfectly."""
        from rosgraph_msgs.msg import Clock

        from vla_ros.conversions import joint_state_message, time_message

        self.now_ns += CLOCK_STEP_NS if advances else 0
        self._clock.publish(Clock(clock=time_message(self.now_ns)))
        self.take()
        moved = [status for status in self.statuses if status.command_positions]
        position = np.array(moved[-1].command_positions) if moved else START
        self._states.publish(
            joint_state_message(JOINTS, position, np.zeros(7), stamp_ns=self.now_ns)
        )
        time.sleep(CLOCK_STEP_NS * 1e-9 / speed)

    def take(self):
        self.statuses += self._status.take_all()

    def send_chunk(self):
        from vla_ros.conversions import action_chunk_message

        ramp = np.linspace(0.0, 1.0, 17)[1:, None]
        actions = START + ramp * (GOAL - START)
        chunk = ActionChunk(
            actions=actions,
            policy_actions=actions.astype(np.float32),
            joints=JOINTS,
            dt_s=0.1,
            stamp_ns=self.now_ns,
            checkpoint_id="test",
            instruction="move",
        )
        self._chunks.publish(
            action_chunk_message(
                chunk,
                sequence=next(self._sequence),
                epoch=1,
                inference_start_ns=self.now_ns,
                generation_ns=self.now_ns,
                image_stamps_ns={},
                state_stamp_ns=self.now_ns,
            )
        )

    def is_in(self, mode, reason="", **step):
        self.step(**step)
        last = self.statuses[-1] if self.statuses else None
        return last and last.mode == mode and reason in last.reason


@pytest.fixture
def simulation(node, start_node):
    start_node("command_node", "-p", "use_sim_time:=true")
    return Simulation(node)


@pytest.fixture
def moving(simulation, wait_until):
    """A simulation whose arm follows a chunk."""
    from vla_msgs.msg import CommandStatus

    wait_until(lambda: simulation.step() or simulation.statuses, "the command loop")

    def moves():
        simulation.send_chunk()
        return simulation.is_in(CommandStatus.EXECUTING)

    wait_until(moves, "the first motion")
    return simulation


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_ticks_are_a_period_of_simulated_time_apart_at_any_speed(moving, speed):
    moving.send_chunk()
    moving.statuses.clear()
    start_ns = moving.now_ns
    for _ in range(100):
        moving.step(speed)
    stamps = np.array([stamp_ns(status) for status in moving.statuses])
    steps = np.diff(stamps)
    assert (steps > 0).all()
    assert (steps % PERIOD_NS == 0).all()
    assert start_ns - PERIOD_NS <= stamps[0] <= stamps[-1] <= moving.now_ns
    # Half a second of simulated time has 25 periods; a busy machine may skip some, never add.
    assert 5 <= len(stamps) <= 26


def test_nothing_is_commanded_while_simulated_time_stands_still(moving, call_service):
    from rcl_interfaces.srv import ListParameters

    for _ in range(3):
        moving.step(advances=False)
    # The node is alive meanwhile: it answers.
    call_service(ListParameters, "command_node/list_parameters", ListParameters.Request())
    moving.take()
    moving.statuses.clear()
    for _ in range(40):
        moving.step(advances=False)
    call_service(ListParameters, "command_node/list_parameters", ListParameters.Request())
    moving.take()
    assert moving.statuses == []
