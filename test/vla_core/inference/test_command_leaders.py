# SPDX-License-Identifier: MIT
"""Somebody with priority over the policy leads the arm."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_core.inference.command_stream import CommandMode

TICK_NS = 20_000_000
HOME = np.array([0.0, 0.5])


def lead(arm, leader, num=1):
    for _ in range(num):
        arm.measure()
        tick = arm.stream.tick(arm.now_ns, leader=np.asarray(leader))
        arm.now_ns += TICK_NS
        if tick.plan is not None:
            arm.measured = tick.plan[0][0]
    return tick


def test_a_leader_is_followed_without_a_chunk_and_before_one(arm):
    leader = HOME - 0.3
    tick = lead(arm, leader, 100)
    assert tick.mode is CommandMode.EXECUTING
    np.testing.assert_allclose(arm.measured, leader, atol=1e-6)
    arm.give_chunk()
    lead(arm, leader, 10)
    np.testing.assert_allclose(arm.measured, leader, atol=1e-6)


def test_after_a_leader_the_arm_waits_for_a_chunk_at_rest(arm):
    arm.measure()
    arm.give_chunk()
    lead(arm, HOME - 0.3, 5)
    tick = arm.tick(60)
    assert tick.mode is CommandMode.HOLDING
    arm.give_chunk()
    assert arm.tick().mode is CommandMode.EXECUTING


def test_a_leader_frees_an_arm_that_was_stopped_for_its_tracking_error(arm):
    arm.measure()
    arm.give_chunk()
    arm.tick(3)
    arm.measured = HOME + 1.0
    assert "is allowed" in arm.tick(60).reason
    assert lead(arm, HOME + 1.0, 3).mode is CommandMode.EXECUTING


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["chunk", "lead", "stop", "estop", "none"]), min_size=5, max_size=60)
)
def test_changes_of_who_commands_never_leave_the_limits(make_arm, script):
    arm = make_arm(commit_s=0.04)
    commands = []
    for word in script:
        for _ in range(4):
            arm.measure()
            if word != "none":
                arm.give_chunk()
            tick = arm.stream.tick(
                arm.now_ns,
                stop_reason=word if word in ("stop", "estop") else "",
                is_emergency=word == "estop",
                leader=HOME - 0.4 if word == "lead" else None,
            )
            arm.now_ns += TICK_NS
            if tick.plan is not None:
                arm.measured = tick.plan[0][0]
            commands.append(None if tick.velocity is None else tick.velocity)
    for before, after in itertools.pairwise(commands):
        if before is None or after is None:
            moving = [v for v in (before, after) if v is not None]
            assert all(np.all(np.abs(v) <= 6.0 * 0.02 + 1e-9) for v in moving)
        else:
            assert np.all(np.abs(after - before) <= 6.0 * 0.02 + 1e-9)
