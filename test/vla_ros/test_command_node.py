# SPDX-License-Identifier: MIT
"""command_node as a process: trajectories a controller accepts, stops with a reason, no torch."""

import sys
from pathlib import Path

import numpy as np
import pytest

from vla_core.processing.contract import load_contract
from vla_core.processing.messages import stamp_ns
from vla_core.sim.arm_model import HOME
from vla_ros.graph import EXIT_CONFIGURATION

pytestmark = pytest.mark.ros

CONTRACT = load_contract("sim")
JOINTS = CONTRACT.action.joints
START = np.asarray(HOME, dtype=np.float64)
GOAL = np.add(START, [0.2, 0.1, -0.1, 0.1, 0.0, -0.2, 0.0])


@pytest.fixture
def process(start_node):
    return start_node("command_node")


@pytest.fixture
def moving(robot, process, wait_until):
    """An arm that has begun to follow a chunk."""
    from vla_msgs.msg import CommandStatus

    wait_until(lambda: robot.is_in(CommandStatus.WAITING, "no action chunk"), "joint states")
    robot.send_chunk()
    wait_until(lambda: robot.is_in(CommandStatus.EXECUTING), "execution")
    wait_until(lambda: robot.step() or np.abs(robot.position - START).max() > 0.02, "motion")
    return robot


def hold(robot, wait_until, reason, **step):
    from vla_msgs.msg import CommandStatus

    wait_until(lambda: robot.is_in(CommandStatus.HOLDING, reason, **step), f"a hold: {reason}")


def test_says_what_it_waits_for(robot, process, wait_until):
    from vla_msgs.msg import CommandStatus

    wait_until(
        lambda: robot.is_in(CommandStatus.WAITING, "no joint state", measures=False), "the reason"
    )
    assert robot.trajectories == []


def test_chunk_moves_the_arm_and_no_trajectory_is_rejected(moving, wait_until):
    def has_arrived():
        moving.send_chunk(goal=GOAL, actions=np.tile(GOAL, (16, 1)))
        moving.step()
        return np.abs(moving.position - GOAL).max() < 1e-3

    wait_until(has_arrived, "the goal")
    assert len(moving.trajectories) > 10


def test_every_trajectory_begins_in_its_tick_and_ends_at_rest(moving):
    for trajectory in moving.trajectories:
        offsets = [point.time_from_start for point in trajectory.points]
        times = [offset.sec + offset.nanosec * 1e-9 for offset in offsets]
        assert tuple(trajectory.joint_names) == JOINTS
        assert len(times) >= 4
        assert times[0] == 0.0
        assert np.allclose(np.diff(times[:-1]), CONTRACT.command.dt_s)
        assert trajectory.points[-1].positions == trajectory.points[-2].positions
        assert list(trajectory.points[-1].velocities) == [0.0] * len(JOINTS)
    stamps = [stamp_ns(trajectory) for trajectory in moving.trajectories]
    assert len(stamps) > 1
    assert np.all(np.diff(stamps) > 0)


def test_silence_of_the_policy_brings_the_arm_to_rest_and_then_silence(moving, wait_until):
    hold(moving, wait_until, "the observation of the newest chunk is")
    num_trajectories, status = len(moving.trajectories), moving.status
    wait_until(
        lambda: moving.step() or moving.status.header.stamp.sec > status.header.stamp.sec,
        "a later tick",
    )
    assert len(moving.trajectories) == num_trajectories
    last = moving.trajectories[-1].points[-1]
    np.testing.assert_array_equal(moving.position, last.positions)


def test_idle_policy_brings_the_arm_to_rest(moving, wait_until):
    moving.revoke(epoch=2)
    hold(moving, wait_until, "the policy is idle")


def test_silent_joint_states_bring_the_arm_to_rest(moving, wait_until):
    hold(moving, wait_until, "the joint state is", measures=False)


def test_joint_states_of_two_publishers_are_merged(robot, process, node, wait_until):
    """The arm and its gripper have a publisher each, on one topic."""
    from sensor_msgs.msg import JointState
    from vla_msgs.msg import CommandStatus

    from vla_ros.conversions import joint_state_message, sensor_publisher_qos

    publishers = [
        node.create_publisher(JointState, "joint_states", sensor_publisher_qos()) for _ in "ab"
    ]

    def measure(*parts):
        for publisher, part in zip(publishers, parts, strict=False):
            publisher.publish(
                joint_state_message(
                    JOINTS[part], START[part], np.zeros(7)[part], stamp_ns=robot.now_ns
                )
            )

    arm, gripper = slice(0, 6), slice(6, 7)
    wait_until(
        lambda: (
            measure(arm)
            or robot.is_in(CommandStatus.WAITING, "has 'gripper_joint'", measures=False)
        ),
        "the missing joint",
    )
    wait_until(
        lambda: (
            measure(arm, gripper)
            or robot.is_in(CommandStatus.WAITING, "no action chunk", measures=False)
        ),
        "all joints",
    )


def test_motion_resumes_after_a_hold(moving, wait_until):
    from vla_msgs.msg import CommandStatus

    moving.revoke(epoch=2)
    hold(moving, wait_until, "the policy is idle")
    held = moving.position
    moving.send_chunk(epoch=3)
    wait_until(lambda: moving.is_in(CommandStatus.EXECUTING), "execution")
    wait_until(lambda: moving.step() or np.abs(moving.position - held).max() > 0.01, "motion")


def test_chunk_that_is_not_finite_is_refused_and_never_executed(moving, wait_until):
    bad = np.tile(START, (16, 1))
    bad[7, 2] = np.nan
    moving.send_chunk(actions=bad)
    wait_until(lambda: moving.step() or "is refused" in moving.status.reason, "the refusal")
    assert "chunk 2 is refused" in moving.status.reason
    assert all(
        np.isfinite(point.positions).all()
        for trajectory in moving.trajectories
        for point in trajectory.points
    )


def test_chunk_for_another_robot_is_refused(robot, process, wait_until):
    from vla_msgs.msg import CommandStatus

    wait_until(lambda: robot.is_in(CommandStatus.WAITING, "no action chunk"), "joint states")
    robot.send_chunk(joints=tuple(reversed(JOINTS)))
    wait_until(lambda: robot.is_in(CommandStatus.WAITING, "is refused"), "the refusal")
    assert robot.trajectories == []


def test_arm_that_does_not_follow_is_stopped(moving, wait_until):
    moving.controller.hold(np.add(START, [0.0, 0.0, 0.0, 0.0, 0.9, 0.0, 0.0]))
    moving._trajectories.destroy()
    moving._trajectories.take_next = lambda: None
    hold(moving, wait_until, "joint_5 is")


def test_torch_is_never_loaded(moving, process):
    libraries = Path(f"/proc/{process.process.pid}/maps").read_text()
    assert "_rclpy_pybind11" in libraries
    assert "torch" not in libraries


def test_module_itself_imports_no_torch(start_node):
    import subprocess

    code = "import sys, vla_ros.nodes.command_node; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("num_lookahead:=1", "'num_lookahead' must be between 3 and 50"),
        ("contract:=nobody", "contract 'nobody' is not shipped; available: 'aloha', '"),
    ],
)
def test_wrong_parameter_ends_the_process_with_what_is_expected(start_node, parameter, message):
    process = start_node("command_node", "-p", parameter)
    assert process.wait() == EXIT_CONFIGURATION
    assert message in process.output()


def test_ctrl_c_ends_the_process_well(process, robot, wait_until):
    from vla_msgs.msg import CommandStatus

    wait_until(lambda: robot.is_in(CommandStatus.WAITING), "a status")
    assert process.stop() == 0
