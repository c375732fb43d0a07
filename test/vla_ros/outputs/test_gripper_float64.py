# SPDX-License-Identifier: MIT
import pytest

pytestmark = pytest.mark.ros


def test_the_position_of_the_gripper_is_published(build, make_contract, node, motion, spin_until):
    from std_msgs.msg import Float64

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    gripper = {"open": 0.04, "closed": 0.0, "output": "float64", "topic": "gripper/opening"}
    received = PolledSubscription(node, Float64, "gripper/opening", status_qos())
    contract = make_contract(topic="arm/trajectory", grippers={"gripper_joint": gripper})
    arm, output = build(contract)
    spin_until(lambda: received.num_publishers, "the publisher")
    command = motion.command()
    output.send(command)
    assert spin_until(received.take, "a position").data == command.positions[0, 6]
    assert "gripper_joint" not in arm.joints
