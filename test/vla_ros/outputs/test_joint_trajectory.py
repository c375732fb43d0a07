# SPDX-License-Identifier: MIT
"""Trajectories that a controller takes, and one that does not take them is noticed."""

import numpy as np
import pytest

from vla_core.sim.trajectory_controller import TrajectoryController

pytestmark = pytest.mark.ros


@pytest.fixture
def received(node):
    from trajectory_msgs.msg import JointTrajectory

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    return PolledSubscription(node, JointTrajectory, "arm/joint_trajectory", status_qos())


@pytest.fixture
def output(build, make_contract, received, spin_until):
    output = build(make_contract(topic="arm/joint_trajectory"))
    spin_until(lambda: received.num_publishers, "the publisher")
    return output


@pytest.mark.parametrize("distro", ["humble", "jazzy"])
def test_controllers_of_all_distributions_take_what_is_sent(
    output, received, motion, spin_until, distro
):
    controller = TrajectoryController(output.joints, motion.position, distro=distro)
    for _ in range(20):
        command = motion.command()
        output.send(command)
        controller.replace(spin_until(received.take, "a trajectory"), command.now_ns)
        controller.sample(command.now_ns)
        reached, _ = controller.sample(command.now_ns + 20_000_000)
        np.testing.assert_allclose(reached, command.positions[0], atol=1e-9)


def test_nobody_who_listens_is_a_problem(build, make_contract):
    output = build(make_contract(topic="elsewhere/joint_trajectory"))
    output.poll()
    assert output.problems() == ()  # the controller may only be about to start
    for _ in range(20):
        output.poll()
    assert any("nobody subscribes to /elsewhere" in text for text in output.problems())


class ReportingController:
    """Publishes controller_state, with a reference that does or does not follow."""

    def __init__(self, node, joints):
        messages = pytest.importorskip("control_msgs.msg")
        from vla_ros.conversions import status_qos

        self._type = messages.JointTrajectoryControllerState
        self._joints = list(reversed(joints))
        self.publisher = node.create_publisher(self._type, "arm/controller_state", status_qos())

    def report(self, reference, now_ns):
        from vla_ros.conversions import time_message

        message = self._type(joint_names=self._joints)
        message.header.stamp = time_message(now_ns)
        message.reference.positions = list(reversed(reference.tolist()))
        self.publisher.publish(message)


def run(output, motion, controller, spin, spin_until, references):
    """Send commands while the controller reports references; return the problems at the end."""
    spin_until(lambda: controller.publisher.get_subscription_count(), "the subscription")
    for reference in references:
        command = motion.command()
        output.send(command)
        position = command.position if reference is None else reference
        controller.report(position, command.now_ns)
        spin()
        output.poll()
    return [text for text in output.problems() if "does not follow" in text]


def test_a_controller_that_ignores_trajectories_is_reported_by_name(
    output, motion, make_node, spin, spin_until
):
    controller = ReportingController(make_node("arm"), output.joints)
    stuck = motion.position.copy()
    problems = run(output, motion, controller, spin, spin_until, [stuck] * 100)
    assert problems
    assert "arm does not follow: its reference of joint_1" in problems[0]


def test_a_controller_that_follows_is_not_reported(output, motion, make_node, spin, spin_until):
    controller = ReportingController(make_node("arm"), output.joints)
    assert run(output, motion, controller, spin, spin_until, [None] * 100) == []


REPLACEMENT = "allow_trajectory_replacement"


@pytest.fixture
def is_warned(output, spin):
    """Return whether the operator is told to switch the replacement of trajectories off."""

    def look():
        spin()
        output.poll()
        return any(f"set its parameter {REPLACEMENT} to false" in p for p in output.problems())

    return look


def test_a_controller_that_replaces_trajectories_is_reported_until_it_does_not(
    output, make_node, is_warned, spin_until, monkeypatch
):
    from rclpy.parameter import Parameter

    from vla_ros.outputs import base

    controller = make_node("arm")
    controller.declare_parameter(REPLACEMENT, True)
    spin_until(is_warned, "the warning")
    assert "arm starts each trajectory anew" in output.problems()[0]
    monkeypatch.setattr(base, "_PROBLEM_LASTS_S", 0.1)
    controller.set_parameters([Parameter(REPLACEMENT, value=False)])
    spin_until(lambda: not is_warned(), "the end of the warning")


@pytest.mark.parametrize("parameters", [{REPLACEMENT: False}, {"interpolation_method": "splines"}])
def test_a_controller_that_keeps_to_a_trajectory_or_cannot_but_do_so_is_right(
    output, make_node, is_warned, spin_until, parameters
):
    controller = make_node("arm")
    for name, value in parameters.items():
        controller.declare_parameter(name, value)
    asked = output._replacement._parameters
    spin_until(lambda: is_warned() or asked.has_answered, "the answer")
    assert output.problems() == ()


def test_joints_of_two_equal_arms_go_out_without_their_prefixes(node, build, motion, spin_until):
    from trajectory_msgs.msg import JointTrajectory

    from vla_core.processing.contract import load_contract
    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    aloha = load_contract("aloha")
    topics = aloha.command.topics
    received = [PolledSubscription(node, JointTrajectory, topic, status_qos()) for topic in topics]
    outputs = build(aloha)
    spin_until(lambda: all(part.num_publishers for part in received), "the publishers")
    command = type(motion)(np.linspace(0.0, 0.13, 14), np.linspace(0.1, 0.2, 14)).command()
    for output in outputs:
        output.send(command)
    arm = ["waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate"]
    columns = [slice(0, 6), slice(6, 7), slice(7, 13), slice(13, 14)]
    names = [arm, ["left_finger"]] * 2
    for part, expected, place in zip(received, names, columns, strict=True):
        message = spin_until(part.take, "a trajectory")
        assert message.joint_names == expected
        np.testing.assert_allclose(message.points[0].positions, command.position[place])
        np.testing.assert_allclose(message.points[1].positions, command.positions[0, place])
