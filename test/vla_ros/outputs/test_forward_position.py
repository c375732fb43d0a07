# SPDX-License-Identifier: MIT
"""Positions for a forward controller, in the order of its own joints."""

import pytest

pytestmark = pytest.mark.ros

TOPIC = "forward_position_controller/commands"
CONTROLLER = "forward_position_controller"


@pytest.fixture
def received(node):
    from std_msgs.msg import Float64MultiArray

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    return PolledSubscription(node, Float64MultiArray, TOPIC, status_qos())


@pytest.fixture
def controller(make_node):
    """Start the controller's node, with joints in this order."""

    def start(joints):
        make_node(CONTROLLER).declare_parameter("joints", list(joints))

    return start


def test_values_are_in_the_order_that_the_controller_tells(
    build, make_contract, controller, received, motion, spin_until
):
    contract = make_contract("forward_position", TOPIC)
    controller(reversed(contract.action.joints))
    output = build(contract)
    spin_until(lambda: received.num_publishers, "the publisher")
    command = motion.command()
    output.send(command)
    message = spin_until(received.take, "a command")
    assert list(message.data) == command.positions[0, ::-1].tolist()


def test_a_controller_that_tells_nothing_gets_the_order_of_the_contract(
    build, make_contract, received, motion, spin_until
):
    output = build(make_contract("forward_position", TOPIC))
    spin_until(lambda: received.num_publishers, "the publisher")
    command = motion.command()
    output.send(command)
    message = spin_until(received.take, "a command")
    assert list(message.data) == command.positions[0].tolist()


def test_nothing_is_sent_before_the_order_is_known(build, make_contract):
    output = build(make_contract("forward_position", TOPIC), waits=False)
    assert f"the order of joints of {CONTROLLER} is not known yet" in output.blocker()


def test_a_controller_of_other_joints_is_refused_with_both_lists(
    build, make_contract, controller, spin_until
):
    controller(["shoulder", "elbow"])
    output = build(make_contract("forward_position", TOPIC), waits=False)

    def refused():
        output.poll()
        return "commands shoulder, elbow" in output.blocker()

    spin_until(refused, "the refusal")
    assert "the contract sends it joint_1, joint_2" in output.blocker()


def test_the_order_is_asked_again_when_the_controller_comes_back(
    build, make_contract, make_node, spin_until
):
    contract = make_contract("forward_position", TOPIC)
    output = build(contract)
    make_node(CONTROLLER).declare_parameter("joints", list(reversed(contract.action.joints)))

    def is_reversed():
        output.poll()
        return output._order.columns.tolist() == [6, 5, 4, 3, 2, 1, 0]

    spin_until(is_reversed, "the new order")
