# SPDX-License-Identifier: MIT
"""A policy that comes after one that died goes on with what that one was asked to do."""

import time

import pytest

from vla_core.inference.policy import Policy
from vla_ros import inference_loop

pytestmark = pytest.mark.ros

DISCOVERY_S = inference_loop._DISCOVERY_S
OTHER_TASK = "pick up the blue block"


def test_a_policy_that_loads_for_longer_than_discovery_takes_goes_on_with_the_task_in_force(
    start_node, robot, start_policy, wait_until, monkeypatch
):
    start_node("command_node")
    # Later than the epochs of a new process begin.
    epoch = int(time.time()) + 1000

    def is_in_force():
        robot.send_chunk(epoch=epoch, instruction=OTHER_TASK)
        robot.step()
        return robot.status is not None and robot.status.policy_epoch == epoch

    wait_until(is_in_force, "the task of the policy that dies now")
    load = Policy.from_checkpoint

    def load_slowly(*args, **kwargs):
        time.sleep(DISCOVERY_S + 0.5)
        return load(*args, **kwargs)

    monkeypatch.setattr(Policy, "from_checkpoint", load_slowly)
    monkeypatch.setattr(inference_loop, "_DISCOVERY_S", DISCOVERY_S)
    node = start_policy(instruction="pick up the red block")
    task, later_epoch = node.loop.task()
    assert task == OTHER_TASK
    assert later_epoch > epoch
    assert node.get_parameter("instruction").value == OTHER_TASK
