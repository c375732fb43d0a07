# SPDX-License-Identifier: MIT
"""`vla say`: an instruction reaches the real policy node, or the lack of one is named."""

import subprocess
import sys

import pytest
from vla_msgs.msg import PolicyStatus

from vla_ros.conversions import status_qos
from vla_ros.polled_subscription import PolledSubscription

pytestmark = pytest.mark.ros


def say(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "vla_core.cli", "say", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_instruction_reaches_the_policy(node, start_node, wait_until):
    statuses = PolledSubscription(node, PolicyStatus, "policy_node/status", status_qos())
    start_node("policy_node", "-p", "autostart:=false")
    result = say("pick up the blue block", "--timeout", "30")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "taken; it is followed once the node is active\n"

    def names_the_instruction():
        status = statuses.take()
        return status is not None and status.instruction == "pick up the blue block"

    wait_until(names_the_instruction, "a status with the instruction")


def test_lacking_policy_is_named_with_what_to_start(ros_domain):
    result = say("pick up the blue block", "--timeout", "0.5")
    assert result.returncode == 2
    assert "no node serves 'policy_node/set_instruction' within 0.5 s" in result.stderr
    assert "vla up groot" in result.stderr
