# SPDX-License-Identifier: MIT
"""Velocities for a forward controller: they lead to the planned positions and end at zero."""

import numpy as np
import pytest

pytestmark = pytest.mark.ros

TOPIC = "forward_velocity_controller/commands"


@pytest.fixture
def received(node):
    from std_msgs.msg import Float64MultiArray

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    return PolledSubscription(node, Float64MultiArray, TOPIC, status_qos())


@pytest.fixture
def output(build, make_contract, received, spin_until):
    output = build(make_contract("forward_velocity", TOPIC))
    spin_until(lambda: received.num_publishers, "the publisher")
    return output


def test_velocities_are_sent_in_every_tick(output, received, motion, spin_until):
    for _ in range(3):
        output.send(motion.command())
        message = spin_until(received.take, "a command")
        np.testing.assert_allclose(message.data, motion.velocity, atol=1e-9)


def test_a_motion_ends_with_zeros(output, received, motion, spin_until):
    output.send(motion.command())
    spin_until(received.take, "a command")
    output.stop()
    message = spin_until(received.take, "zeros")
    assert list(message.data) == [0.0] * 7
