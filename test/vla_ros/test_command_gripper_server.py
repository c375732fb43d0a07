# SPDX-License-Identifier: MIT
"""The gripper's action server goes and comes back while command_node commands."""

import threading
import time

import numpy as np
import pytest
import yaml

from vla_core.processing.contract import load_contract
from vla_core.processing.messages import stamp_ns
from vla_core.sim.arm_model import HOME

pytestmark = pytest.mark.ros

actions = pytest.importorskip("control_msgs.action")

SERVER = "gripper/cmd"
CLOSED = 0.0


class Gripper:
    """An action server in a process of its own, as far as the middleware can tell."""

    def __init__(self, domain):
        import rclpy
        from rclpy.action import ActionServer
        from rclpy.executors import SingleThreadedExecutor

        self.positions = []
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self._node = rclpy.create_node("gripper", context=self._context)
        self._server = ActionServer(self._node, actions.GripperCommand, SERVER, self._execute)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def _execute(self, handle):
        self.positions.append(handle.request.command.position)
        handle.succeed()
        return actions.GripperCommand.Result(reached_goal=True)

    def go(self):
        if self._context.ok():
            self._executor.shutdown()
            self._thread.join()
            self._server.destroy()
            self._node.destroy_node()
            self._context.try_shutdown()


@pytest.fixture
def start_gripper(ros_domain):
    started = []

    def start():
        started.append(Gripper(ros_domain))
        return started[-1]

    yield start
    for gripper in started:
        gripper.go()


@pytest.fixture
def diagnostics(node):
    from diagnostic_msgs.msg import DiagnosticArray

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    return PolledSubscription(node, DiagnosticArray, "/diagnostics", status_qos())


@pytest.fixture
def robot(robot, start_node, tmp_path):
    """An arm at rest whose policy closes the gripper, and its command_node."""
    contract = load_contract("sim").to_dict()
    contract["grippers"] = {
        "gripper_joint": {
            "open": 0.04,
            "closed": CLOSED,
            "mode": "binary",
            "output": "gripper_command",
            "topic": SERVER,
        }
    }
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(contract, sort_keys=False))
    start_node("command_node", "-p", f"contract:={path}")
    # The trajectories, which have no gripper in them, are not followed: nothing moves.
    robot._trajectories.take_next = lambda: None
    robot.actions = np.tile([*HOME[:6], CLOSED], (16, 1))
    robot.chunk_due = 0.0
    return robot


def live(robot):
    """Let a little time pass in which the policy answers and the arm is measured."""
    if time.monotonic() > robot.chunk_due:
        robot.chunk_due = time.monotonic() + 0.1
        robot.send_chunk(actions=robot.actions)
    robot.step()


def test_the_gripper_server_goes_and_comes_back(robot, start_gripper, diagnostics, wait_until):
    """Meanwhile the arm holds, ticks go on, and it is told why; then the goal is given again."""
    from vla_msgs.msg import CommandStatus

    gone = f"no server of {SERVER} (control_msgs/action/GripperCommand) is there"
    first = start_gripper()
    wait_until(lambda: live(robot) or CLOSED in first.positions, "a goal")
    robot.controller.hold([*HOME[:6], CLOSED])
    first.go()

    def holds():
        live(robot)
        return robot.status.mode == CommandStatus.HOLDING and gone in robot.status.reason

    wait_until(holds, "a hold")

    def is_diagnosed():
        live(robot)
        array = diagnostics.take()
        return array and any(
            report.name == "command_node: outputs" and gone in report.message
            for report in array.status
        )

    wait_until(is_diagnosed, "a diagnostic")
    stamps = {stamp_ns(robot.status)}

    def goes_on():
        live(robot)
        stamps.add(stamp_ns(robot.status))
        return len(stamps) > 50

    wait_until(goes_on, "further ticks")
    # The test may miss some; a tick that waited for the server would be late by tens of periods.
    assert np.median(np.diff(sorted(stamps))) < 40_000_000
    second = start_gripper()
    wait_until(lambda: live(robot) or second.positions == [CLOSED], "the goal again")
    wait_until(lambda: live(robot) or robot.status.mode == CommandStatus.EXECUTING, "execution")
