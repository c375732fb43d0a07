# SPDX-License-Identifier: MIT
"""Jumps of /clock under a whole graph: docs/faults.md lists them."""

import pytest

from vla_core.processing.messages import stamp_ns

pytestmark = pytest.mark.ros

JUMP_S = 50.0


@pytest.fixture(scope="module")
def simulated_arm(run_arm):
    """An arm whose robot tells the time."""
    with run_arm(has_clock=True) as arm:
        yield arm


def first_tick_after_jump(arm, jump_s):
    """Set the clock while no new frame comes, and return the first tick of the new time."""
    begin_ns = stamp_ns(arm.new("command")[0])
    arm.robot.spoil = lambda source, message: message if source == "joints" else None
    arm.robot.set_clock(jump_s)

    def find():
        ticks = arm.new("command")
        return next((t for t in ticks if abs(stamp_ns(t) - begin_ns) > JUMP_S / 2 * 1e9), None)

    return arm.wait_for(find, "the jump")


@pytest.mark.parametrize(
    ("jump_s", "reasons"),
    [
        (JUMP_S, ("s old, at most",)),
        # A joint state of the time before may still be on its way.
        (-JUMP_S, ("the clock was set back", "in the future")),
    ],
    ids=["forward", "back"],
)
def test_the_clock_jumps(simulated_arm, jump_s, reasons):
    """The arm decelerates from the first tick on, and goes on with data of the new time."""
    from vla_msgs.msg import CommandStatus

    arm = simulated_arm
    arm.wait_for_motion()
    tick = first_tick_after_jump(arm, jump_s)
    assert tick.mode in (CommandStatus.STOPPING, CommandStatus.HOLDING)
    assert any(reason in tick.reason for reason in reasons)
    arm.assert_goes_on()
    for newest in (arm.listener.last("command"), arm.listener.last("chunk")):
        assert abs(stamp_ns(newest) - arm.robot.now_ns()) < JUMP_S / 2 * 1e9
