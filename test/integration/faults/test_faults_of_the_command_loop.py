# SPDX-License-Identifier: MIT
"""Faults of the process that commands the arm: docs/faults.md lists them."""

import signal
import time

import numpy as np
import pytest

from vla_core.processing.messages import stamp_ns

pytestmark = pytest.mark.ros

PAUSE_S = 2.0
LOOP = "command_node: loop"


@pytest.fixture
def stopped(arm):
    """The arm at rest, while its command loop got no processor for some time; and when it did."""
    arm.graph.kill("command_node", signal.SIGSTOP)
    begin_s = time.monotonic()
    try:
        arm.wait_for(arm.is_at_rest, "the arm at rest")
        arm.wait_for(lambda: time.monotonic() > begin_s + PAUSE_S, "a long pause")
        arm.mark()
        resume_ns = arm.robot.now_ns()
    finally:
        arm.graph.kill("command_node", signal.SIGCONT)
    return arm, resume_ns


def test_the_command_loop_gets_no_processor_for_a_while(stopped):
    """It stands still for it, and goes on from where it does, without what is late by then."""
    arm, resume_ns = stopped
    rested = arm.listener.last("joints").position
    trajectories = arm.wait_for(
        lambda: len(arm.new("trajectory")) > 10 and arm.new("trajectory"), "a motion"
    )
    stamps = [stamp_ns(trajectory) for trajectory in trajectories]
    assert stamps[0] > resume_ns - arm.contract.command.dt_s * 1e9
    assert min(np.diff(stamps)) > 0
    first = trajectories[0].points[0]
    np.testing.assert_allclose(first.positions, rested, atol=1e-3)
    assert not np.any(first.velocities)
    arm.assert_diagnosed(LOOP, "missed ticks: ")
    arm.assert_goes_on()
