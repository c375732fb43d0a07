# SPDX-License-Identifier: MIT
"""What stops the arm or takes it over, at command_node as a process."""

import itertools

import numpy as np
import pytest
import yaml

from vla_core.processing.contract import load_contract

pytestmark = pytest.mark.ros

CONTRACT = load_contract("sim")
ACCELERATION = np.array([limit.acceleration for limit in CONTRACT.action_limits.values()])


@pytest.fixture
def publish(node, wait_until):
    """`publish(topic, value)` says a Bool to command_node."""
    from std_msgs.msg import Bool

    publishers = {}

    def send(topic, value):
        if topic not in publishers:
            publishers[topic] = node.create_publisher(Bool, topic, 10)
            wait_until(publishers[topic].get_subscription_count, f"a subscription of {topic}")
        publishers[topic].publish(Bool(data=value))

    return send


@pytest.fixture
def trigger(call_service):
    """Call a Trigger service of command_node."""
    from std_srvs.srv import Trigger

    return lambda name: call_service(Trigger, f"command_node/{name}", Trigger.Request())


@pytest.fixture
def arm(call_service):
    """Arm or disarm command_node."""
    from std_srvs.srv import SetBool

    return lambda value: call_service(SetBool, "command_node/arm", SetBool.Request(data=value))


@pytest.fixture
def preview(node):
    from trajectory_msgs.msg import JointTrajectory

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    return PolledSubscription(node, JointTrajectory, "command_node/preview", status_qos())


@pytest.fixture
def start(start_node, robot, wait_until):
    """Start command_node with parameters, and wait until it hears the robot."""

    def run(*parameters, safety=None, tmp_path=None):
        words = [word for parameter in parameters for word in ("-p", parameter)]
        if safety is not None:
            path = tmp_path / "robot.yaml"
            contract = {**CONTRACT.to_dict(), "safety": safety}
            path.write_text(yaml.safe_dump(contract, sort_keys=False))
            words += ["-p", f"contract:={path}"]
        process = start_node("command_node", *words)
        wait_until(
            lambda: robot.step() or (robot.status and np.isfinite(robot.status.joint_state_age)),
            "command_node",
        )
        return process

    return run


@pytest.fixture
def move(robot, wait_until):
    """Have the robot follow chunks until it has moved."""

    def follow(meanwhile=lambda: None):
        from vla_msgs.msg import CommandStatus

        began = robot.position
        epoch = next(robot.epochs)

        def moved():
            meanwhile()
            if robot.status.mode != CommandStatus.EXECUTING:
                robot.send_chunk(actions=np.tile(robot.goal, (16, 1)), epoch=epoch)
            robot.step()
            return np.abs(robot.position - began).max() > 0.01

        wait_until(moved, "motion")

    robot.epochs = itertools.count(1)
    return follow


def wait_for(robot, wait_until, mode, reason="", **step):
    wait_until(lambda: robot.is_in(mode, reason, **step), f"mode {mode}: {reason}")


def listen_until(robot, wait_until, mode, reason):
    """Step until a mode is reached and return every status on the way there."""
    num_before = len(robot.statuses)
    wait_for(robot, wait_until, mode, reason)
    return robot.statuses[num_before:]


def assert_stop_is_within_limits(heard):
    """No two neighbouring commands differ by more than the acceleration allows."""
    velocities = [np.array(s.command_velocities) for s in heard if len(s.command_velocities)]
    stamps = [
        s.header.stamp.sec + s.header.stamp.nanosec * 1e-9
        for s in heard
        if len(s.command_velocities)
    ]
    assert len(velocities) > 1
    for i in range(1, len(velocities)):
        num_ticks = round((stamps[i] - stamps[i - 1]) / CONTRACT.command.dt_s)
        step = np.abs(velocities[i] - velocities[i - 1])
        assert np.all(step <= ACCELERATION * CONTRACT.command.dt_s * num_ticks + 1e-6)


def test_emergency_stop_by_topic_stays_until_it_is_reset(
    robot, start, move, publish, trigger, wait_until
):
    from vla_msgs.msg import CommandStatus

    start()
    move()
    publish("estop", True)
    heard = listen_until(robot, wait_until, CommandStatus.HOLDING, "emergency stop: topic /estop")
    assert_stop_is_within_limits(heard)
    assert robot.status.emergency_stop
    publish("estop", False)
    num_statuses = itertools.count()
    robot.send_chunk(epoch=50)
    wait_until(lambda: robot.step() or next(num_statuses) > 100, "a while")
    assert robot.status.mode == CommandStatus.HOLDING
    assert robot.status.emergency_stop
    assert trigger("reset_emergency_stop").success
    robot.epochs = itertools.count(100)
    move()
    assert not robot.status.emergency_stop


def test_emergency_stop_by_service(robot, start, move, trigger, wait_until):
    from vla_msgs.msg import CommandStatus

    start()
    move()
    response = trigger("emergency_stop")
    assert "reset_emergency_stop" in response.message
    wait_for(robot, wait_until, CommandStatus.HOLDING, "emergency stop: service")


def test_a_stop_that_is_followed_by_its_release_at_once_still_counts(
    robot, start, move, publish, wait_until
):
    from vla_msgs.msg import CommandStatus

    start()
    move()
    publish("estop", True)
    publish("estop", False)
    wait_for(robot, wait_until, CommandStatus.HOLDING, "emergency stop")


def test_a_stop_of_a_best_effort_publisher_counts(node, robot, start, wait_until):
    from rclpy.qos import qos_profile_sensor_data
    from std_msgs.msg import Bool
    from vla_msgs.msg import CommandStatus

    button = node.create_publisher(Bool, "estop", qos_profile_sensor_data)
    start()
    wait_until(
        lambda: (
            button.publish(Bool(data=True))
            or robot.is_in(CommandStatus.WAITING, "emergency stop: topic /estop")
        ),
        "the stop",
    )


def test_deadman_and_leader_may_be_best_effort(node, start, tmp_path, wait_until):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import JointState
    from std_msgs.msg import Bool

    start(safety={"deadman_topic": "enable", "deadman_max_age_s": 0.5}, tmp_path=tmp_path)
    for kind, topic in ((Bool, "enable"), (JointState, "teleop_joint_states")):
        publisher = node.create_publisher(kind, topic, qos_profile_sensor_data)
        wait_until(publisher.get_subscription_count, f"a subscription that hears {topic}")


def test_the_deadman_must_be_held(robot, start, move, publish, tmp_path, wait_until):
    from vla_msgs.msg import CommandStatus

    start(safety={"deadman_topic": "enable", "deadman_max_age_s": 0.5}, tmp_path=tmp_path)
    robot.send_chunk()
    wait_for(
        robot, wait_until, CommandStatus.WAITING, "nothing was heard of the deadman on enable"
    )
    move(meanwhile=lambda: publish("enable", True))
    heard = listen_until(robot, wait_until, CommandStatus.HOLDING, "the deadman on enable")
    assert_stop_is_within_limits(heard)


def test_a_released_deadman_stops_at_once(robot, start, move, publish, tmp_path, wait_until):
    from vla_msgs.msg import CommandStatus

    start(safety={"deadman_topic": "enable", "deadman_max_age_s": 60.0}, tmp_path=tmp_path)
    # Heard best effort, so the first words may be lost while the two still discover each other.
    move(meanwhile=lambda: publish("enable", True))
    publish("enable", False)
    wait_for(robot, wait_until, CommandStatus.HOLDING, "is released")


def test_in_a_dry_run_commands_are_only_previewed(robot, start, preview, wait_until):
    start("dry_run:=always")

    def shown():
        robot.send_chunk(actions=np.tile(robot.goal, (16, 1)))
        robot.step()
        return preview.take()

    message = wait_until(shown, "a preview")
    assert tuple(message.joint_names) == CONTRACT.action.joints
    assert robot.trajectories == []
    assert not robot.status.armed


def test_the_contract_decides_about_a_dry_run_unless_the_parameter_does(
    robot, start, tmp_path, wait_until
):
    start(safety={"dry_run": True}, tmp_path=tmp_path)
    assert not robot.status.armed


def test_arming_lets_commands_through_and_disarming_stops_the_arm(
    robot, start, arm, move, preview, wait_until
):
    from vla_msgs.msg import CommandStatus

    start("dry_run:=always")
    assert arm(True).success
    wait_until(lambda: robot.step() or robot.status.armed, "the arming")
    move()
    assert robot.trajectories
    assert arm(False).success
    heard = listen_until(robot, wait_until, CommandStatus.WAITING, "")
    assert_stop_is_within_limits([status for status in heard if status.armed])
    assert not robot.status.armed
    last = robot.trajectories[-1].points[-1]
    assert list(last.velocities) == [0.0] * 7
    np.testing.assert_allclose(robot.position, last.positions, atol=1e-9)


def test_arming_during_an_emergency_stop_is_refused(start, arm, trigger):
    start("dry_run:=always")
    trigger("emergency_stop")
    response = arm(True)
    assert not response.success
    assert "reset_emergency_stop" in response.message


def test_a_leader_arm_moves_the_arm_without_any_policy(robot, start, wait_until):
    from vla_msgs.msg import CommandStatus

    start()

    def arrived():
        robot.lead(robot.goal)
        robot.step()
        return np.abs(robot.position - robot.goal).max() < 1e-3

    wait_until(arrived, "the leader's position")
    assert robot.status.source == CommandStatus.TELEOPERATION


def test_a_leader_arm_takes_the_arm_from_the_policy_and_gives_it_back(
    robot, start, move, wait_until
):
    from vla_msgs.msg import CommandStatus

    start()
    move()
    assert robot.status.source == CommandStatus.POLICY
    away = robot.start - 0.1
    heard = []

    def led():
        robot.lead(away)
        robot.send_chunk(actions=np.tile(robot.goal, (16, 1)), epoch=1)
        before = robot.status
        robot.step()
        if robot.status is not before:
            heard.append(robot.status)
        return np.abs(robot.position - away)[:6].max() < 1e-3

    wait_until(led, "the leader's position")
    assert robot.status.source == CommandStatus.TELEOPERATION
    heard += listen_until(robot, wait_until, CommandStatus.HOLDING, "after the priority input")
    robot.send_chunk(actions=np.tile(robot.goal, (16, 1)), epoch=1)
    heard += listen_until(robot, wait_until, CommandStatus.EXECUTING, "")
    assert robot.status.source == CommandStatus.POLICY
    assert_stop_is_within_limits(heard)


def test_a_leader_arm_that_lacks_a_joint_is_refused_by_name(node, robot, start, wait_until):
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import JointState

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    heard = PolledSubscription(node, DiagnosticArray, "/diagnostics", status_qos())
    leader = node.create_publisher(JointState, "teleop_joint_states", 10)
    start()

    def refused():
        leader.publish(JointState(name=["joint_1"], position=[0.0]))
        robot.step()
        message = heard.take()
        return message and [s for s in message.status if "teleop_joint_states" in s.message]

    (status,) = wait_until(refused, "the refusal")
    assert "joint_2" in status.message
    assert robot.trajectories == []


def test_chunks_of_two_policies_stop_the_arm_until_one_is_left(robot, start, move, wait_until):
    from vla_msgs.msg import CommandStatus

    start()
    move()
    mine, rivals = robot.sequence, itertools.count(1)

    def interleaved():
        for robot.sequence in (mine, rivals):
            robot.send_chunk(actions=np.tile(robot.goal, (16, 1)), epoch=1)
            robot.step()
        return robot.is_in(CommandStatus.HOLDING, "more than one policy")

    wait_until(interleaved, "the stop")
    robot.sequence = mine
    wait_until(
        lambda: robot.send_chunk(epoch=1) or robot.is_in(CommandStatus.EXECUTING), "one policy"
    )


def test_diagnostics_name_the_emergency_stop_and_measure_the_loop(
    node, robot, start, trigger, wait_until
):
    from diagnostic_msgs.msg import DiagnosticArray

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    heard = PolledSubscription(node, DiagnosticArray, "/diagnostics", status_qos())
    start()
    trigger("emergency_stop")

    def told():
        robot.step()
        message = heard.take()
        found = {s.name: s for s in message.status} if message else {}
        is_there = "command_node: interlocks" in found
        return is_there and found["command_node: interlocks"].level == b"\x02" and found

    found = wait_until(told, "the diagnostics")
    assert "emergency stop" in found["command_node: interlocks"].message
    keys = {value.key for value in found["command_node: loop"].values}
    assert {"rate [Hz]", "lateness p99 [ms]", "missed ticks"} <= keys
    command = {value.key: value.value for value in found["command_node: command"].values}
    assert command["mode"] == "waiting"
    assert float(command["joint state age [s]"]) < 1.0
    assert set(found) == {
        f"command_node: {name}"
        for name in ("loop", "command", "joint states", "limits", "outputs", "interlocks")
    }
