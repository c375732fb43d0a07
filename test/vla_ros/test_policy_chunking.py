# SPDX-License-Identifier: MIT
"""policy_node beside a real command_node: the delay is measured and the old chunk is frozen in."""

import math

import numpy as np
import pytest

from vla_core.processing.messages import time_ns

pytestmark = pytest.mark.ros


@pytest.fixture
def command_node(start_node):
    # The test's robot never moves.
    return start_node("command_node", "-p", "max_tracking_error:=10.0")


def actions_of(message):
    return np.asarray(message.policy_actions).reshape(message.horizon, -1)


def test_chunk_begins_with_what_the_old_one_says_about_the_same_time(
    command_node, observed_robot, start_policy, wait_until
):
    start_policy(chunking="freeze")
    heard = {}

    def committed_pair():
        message = observed_robot.chunk()
        if message is None:
            return None
        heard[message.sequence] = message
        before = heard.get(message.sequence - 1)
        return (before, message) if before and message.committed_steps else None

    before, after = wait_until(committed_pair, "a chunk with committed steps")
    assert after.committed_steps < after.horizon
    old, new = actions_of(before), actions_of(after)
    shift_s = (time_ns(after.header.stamp) - time_ns(before.header.stamp)) * 1e-9
    for step in range(after.committed_steps):
        place = min(shift_s / before.dt + step, len(old) - 1)
        around = old[[math.floor(place), min(math.ceil(place), len(old) - 1)]]
        assert np.all(new[step] >= around.min(0) - 1e-5)
        assert np.all(new[step] <= around.max(0) + 1e-5)


def test_status_tells_the_measured_delay(command_node, observed_robot, start_policy, wait_until):
    from vla_msgs.msg import PolicyStatus

    start_policy()

    def measured():
        status = observed_robot.status_in(PolicyStatus.RUNNING)
        return status if status and math.isfinite(status.effect_delay) else None

    status = wait_until(measured, "a measured delay")
    assert status.effect_delay >= status.inference_latency > 0.0


def test_nothing_is_committed_when_it_is_switched_off(
    command_node, observed_robot, start_policy, wait_until
):
    node = start_policy(chunking="off")
    wait_until(
        lambda: observed_robot.chunk() and math.isfinite(node.loop.effect_delay_s), "a delay"
    )
    for _ in range(3):
        assert wait_until(observed_robot.chunk, "a chunk").committed_steps == 0


def test_without_a_command_node_nothing_is_measured_or_committed(
    observed_robot, start_policy, wait_until
):
    node = start_policy()
    for _ in range(3):
        assert wait_until(observed_robot.chunk, "a chunk").committed_steps == 0
    assert math.isnan(node.loop.effect_delay_s)
