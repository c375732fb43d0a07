# SPDX-License-Identifier: MIT
"""The way ahead is judged by a node with MoveIt's service, over real DDS."""

import itertools
import time

import numpy as np
import pytest

from vla_core.inference.command_stream import CommandMode, CommandStream
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.sim.arm_model import HOME
from vla_core.types import ActionChunk

pytestmark = pytest.mark.ros

SIM = load_contract("sim").to_dict()
CONTRACT = RobotContract.from_dict({**SIM, "action": {**SIM["action"], "max_age_s": 2.0}})
DT_NS = round(CONTRACT.command.dt_s * 1e9)
START_NS = 10_000_000_000
PATIENCE_S = 20.0


class MoveGroup:
    """Takes every state whose first joint is beyond a wall for a collision."""

    def __init__(self, node):
        self.type = pytest.importorskip("moveit_msgs.srv").GetStateValidity
        from moveit_msgs.msg import ContactInformation

        self._contact = ContactInformation
        self._node = node
        self._service = None
        self.wall = np.inf
        self.requests = []

    def serve(self):
        self._service = self._node.create_service(self.type, "check_state_validity", self._answer)

    def stop(self):
        self._node.destroy_service(self._service)

    def _answer(self, request, response):
        self.requests.append(request)
        response.valid = bool(request.robot_state.joint_state.position[0] < self.wall)
        if not response.valid:
            contact = self._contact(contact_body_1="wrist", contact_body_2="table")
            response.contacts = [contact] * 3
        return response


class Arm:
    """A command stream that is ticked while its way is judged."""

    def __init__(self, node, executor, **settings):
        from vla_ros.state_validity import StateValidity

        self.stream = CommandStream(CONTRACT)
        self.validity = StateValidity(
            node, "check_state_validity", CONTRACT.action.joints, **settings
        )
        self.now_ns = START_NS
        self.position = HOME.copy()
        self._executor = executor
        self.stream.put_joint_state(self.position, self.now_ns)

    def send_chunk(self):
        """Send the first joint away at 0.5 rad/s, for two seconds."""
        actions = np.tile(self.position, (20, 1))
        actions[:, 0] += 0.05 * np.arange(1, 21)
        chunk = ActionChunk(
            actions=actions,
            policy_actions=actions.astype(np.float32),
            joints=CONTRACT.action_names,
            dt_s=0.1,
            stamp_ns=self.now_ns,
            checkpoint_id="test",
            instruction="",
        )
        self.stream.put_chunk(chunk, sequence=1, epoch=1, now_ns=self.now_ns)

    def tick(self):
        end = time.monotonic() + DT_NS * 1e-9
        while (left_s := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left_s)
        self.stream.put_joint_state(self.position, self.now_ns)
        reason = self.validity.check(self.stream, self.now_ns, time.monotonic_ns())
        tick = self.stream.tick(self.now_ns, hold_reason=reason)
        if tick.position is not None:
            self.position = tick.position
        self.now_ns += DT_NS
        return tick

    def tick_until(self, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition(tick := self.tick()):
            if tick.mode is CommandMode.HOLDING or "old" in tick.reason:
                self.send_chunk()
            assert time.monotonic() < deadline, f"in vain; the last reason: {tick.reason}"
        return tick


@pytest.fixture
def move_group(node, executor):
    import rclpy

    other = rclpy.create_node("move_group", context=node.context)
    executor.add_node(other)
    yield MoveGroup(other)
    other.destroy_node()


@pytest.fixture
def make_arm(node, executor, move_group):
    arms = []

    def make(**settings):
        arms.append(Arm(node, executor, **settings))
        arms[-1].send_chunk()
        return arms[-1]

    yield make
    for arm in arms:
        arm.validity.destroy()


def is_executing(tick):
    return tick.mode is CommandMode.EXECUTING


def test_the_arm_stops_before_an_invalid_state_and_the_bodies_are_named(move_group, make_arm):
    move_group.serve()
    move_group.wall = HOME[0] + 0.4
    arm = make_arm(group="arm")
    arm.tick_until(is_executing)
    tick = arm.tick_until(lambda tick: not is_executing(tick))
    assert "collides: table with wrist" in tick.reason
    assert "collides: table with wrist" in arm.validity.report().message
    for _ in range(40):
        arm.tick()
    assert HOME[0] < arm.position[0] < move_group.wall
    request = move_group.requests[-1]
    assert request.group_name == "arm"
    assert request.robot_state.is_diff
    assert tuple(request.robot_state.joint_state.name) == CONTRACT.action.joints
    move_group.wall = np.inf
    arm.tick_until(is_executing)


def test_nothing_moves_before_the_way_was_judged_and_after_the_service_is_gone(
    move_group, make_arm
):
    arm = make_arm()
    for _ in range(10):
        assert "nobody serves check_state_validity" in arm.tick().reason
    np.testing.assert_array_equal(arm.position, HOME)
    move_group.serve()
    arm.tick_until(is_executing)
    move_group.stop()
    arm.tick_until(lambda tick: "check_state_validity" in tick.reason)
    assert "check_state_validity" in arm.validity.report().message


def test_a_service_that_is_not_needed_only_reports_that_it_is_missing(move_group, make_arm):
    arm = make_arm(is_needed=False)
    assert is_executing(arm.tick_until(is_executing))
    assert "nobody serves check_state_validity" in arm.validity.report().message


def test_command_node_stops_the_arm_before_what_moveit_calls_a_collision(
    move_group, executor, robot, start_node, wait_until
):
    from vla_msgs.msg import CommandStatus

    move_group.serve()
    start_node("command_node", "-p", "validity_service:=check_state_validity")
    epochs = itertools.count(1)
    robot.goal = HOME + np.array([0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])

    def goes_on_until(is_reached):
        """Have it follow chunks from where it is, whatever else a busy machine has stopped."""
        for _ in range(10):
            executor.spin_once(timeout_sec=0.0)
        robot.step()
        if robot.status is None or is_reached(robot.status):
            return robot.status
        if robot.status.mode in (CommandStatus.WAITING, CommandStatus.HOLDING):
            robot.start = robot.position
            robot.send_chunk(robot.goal, epoch=next(epochs))
        return None

    def executes(status):
        return status.mode == CommandStatus.EXECUTING

    def collides(status):
        return not executes(status) and "table with wrist" in status.reason

    move_group.wall = HOME[0] + 0.3
    wait_until(lambda: goes_on_until(executes), "motion")
    wait_until(lambda: goes_on_until(collides), "a stop")
    assert robot.position[0] < move_group.wall
    move_group.wall = np.inf
    wait_until(lambda: goes_on_until(executes), "motion on the free way")
