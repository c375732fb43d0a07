# SPDX-License-Identifier: MIT
"""The command stream: continuous commands, stops with a reason, always within limits."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_core.errors import ChunkError, ConfigError
from vla_core.inference.command_stream import CommandMode, CommandStream
from vla_core.processing.contract import RobotContract
from vla_core.types import ActionChunk

TICK_NS = 20_000_000
JOINTS = ("shoulder", "elbow")
HOME = np.array([0.0, 0.5])


def make_contract(command_hz=50.0, **action) -> RobotContract:
    limits = {"lower": -2.0, "upper": 2.0, "velocity": 1.5, "acceleration": 6.0}
    action = {"kind": "joint_position", "rate_hz": 10.0, "max_age_s": 0.6, **action}
    return RobotContract.from_dict(
        {
            "robot": "two_joints",
            "cameras": {"front": {"topic": "image", "width": 8, "height": 8, "max_age_s": 0.2}},
            "state": {"topic": "joint_states", "joints": list(JOINTS), "max_age_s": 0.1},
            "action": {"joints": list(JOINTS), **action},
            "command": {
                "rate_hz": command_hz,
                "output": "joint_trajectory",
                "topic": "trajectory",
            },
            "limits": {joint: dict(limits) for joint in JOINTS},
        }
    )


def make_chunk(stamp_ns: int, targets=None, **changes) -> ActionChunk:
    actions = np.linspace(HOME, HOME + 0.5, 16) if targets is None else np.asarray(targets, float)
    values = {
        "actions": actions,
        "policy_actions": actions.astype(np.float32),
        "joints": JOINTS,
        "dt_s": 0.1,
        "stamp_ns": stamp_ns,
        "checkpoint_id": "test",
        "instruction": "move",
    }
    return ActionChunk(**{**values, **changes})


class Arm:
    """A stream with an arm that follows its plan perfectly, ticked on a clock of its own."""

    def __init__(self, command_hz=50.0, **settings):
        self.stream = CommandStream(make_contract(command_hz), **settings)
        self.tick_ns = round(1e9 / command_hz)
        self.now_ns = 1_000_000_000
        self.measured = HOME.copy()
        self.sequence = itertools.count(1)

    def measure(self):
        self.stream.put_joint_state(self.measured.copy(), self.now_ns)

    def give_chunk(self, targets=None, epoch=1, age_s=0.0, **changes):
        chunk = make_chunk(self.now_ns - round(age_s * 1e9), targets, **changes)
        self.stream.put_chunk(chunk, sequence=next(self.sequence), epoch=epoch, now_ns=self.now_ns)

    def tick(self, num=1, measures=True):
        for _ in range(num):
            if measures:
                self.measure()
            tick = self.stream.tick(self.now_ns)
            self.now_ns += self.tick_ns
            if tick.plan is not None:
                self.measured = tick.plan[0][0]
        return tick


@pytest.fixture
def arm() -> Arm:
    return Arm()


@pytest.fixture
def moving(arm) -> Arm:
    arm.measure()
    arm.give_chunk(np.linspace(HOME, HOME + 1.0, 16))
    arm.tick(10)
    return arm


def test_silent_before_the_first_joint_state(arm):
    tick = arm.stream.tick(arm.now_ns)
    assert (tick.mode, tick.plan) == (CommandMode.WAITING, None)
    assert tick.reason == "no joint state was received yet"


def test_silent_before_the_first_chunk(arm):
    tick = arm.tick()
    assert (tick.mode, tick.plan) == (CommandMode.WAITING, None)
    assert tick.reason == "no action chunk was received yet"


def test_motion_starts_at_the_measured_positions_at_rest(arm):
    arm.measured = np.array([0.3, 0.7])
    arm.measure()
    arm.give_chunk()
    tick = arm.tick()
    assert tick.mode is CommandMode.EXECUTING
    np.testing.assert_array_equal(tick.position, [0.3, 0.7])
    np.testing.assert_array_equal(tick.velocity, [0.0, 0.0])


def test_chunk_is_followed_to_its_end(arm):
    arm.measure()
    arm.give_chunk(np.linspace(HOME, HOME + 0.1, 5))
    arm.tick(30)
    np.testing.assert_allclose(arm.measured, HOME + 0.1, atol=1e-5)


def test_a_stream_at_500_hz_follows_a_chunk_within_the_limits():
    arm = Arm(command_hz=500.0)
    arm.measure()
    arm.give_chunk(np.linspace(HOME, HOME + 0.1, 5))
    ticks = [arm.tick() for _ in range(300)]
    np.testing.assert_allclose(arm.measured, HOME + 0.1, atol=1e-5)
    velocities = np.array([tick.velocity for tick in ticks if tick.velocity is not None])
    assert np.abs(velocities).max() <= 1.5 + 1e-9
    assert np.abs(np.diff(velocities, axis=0)).max() <= 6.0 * 0.002 + 1e-9


def test_plan_ends_at_rest(moving):
    positions, velocities = moving.tick().plan
    assert len(positions) == len(velocities) > 3
    assert velocities[0].any()
    assert not velocities[-1].any()


def test_tick_goes_on_exactly_where_the_last_plan_said(moving):
    before, after = moving.tick().plan, moving.tick()
    np.testing.assert_array_equal(after.position, before[0][0])
    np.testing.assert_array_equal(after.velocity, before[1][0])


def test_first_point_is_the_second_of_the_last_plan_when_nothing_changed(moving):
    before, after = moving.tick().plan, moving.tick().plan
    np.testing.assert_allclose(after[0][0], before[0][1], atol=1e-12)
    np.testing.assert_allclose(after[1][0], before[1][1], atol=1e-12)


def test_late_tick_goes_on_where_the_arm_has_followed_the_plan(moving):
    plan = moving.tick().plan
    moving.now_ns += 2 * TICK_NS
    moving.measured = plan[0][2]
    moving.measure()
    tick = moving.stream.tick(moving.now_ns, num_elapsed=3)
    np.testing.assert_array_equal(tick.position, plan[0][2])


def test_very_late_tick_finds_the_arm_at_rest_at_the_end_of_the_plan(moving):
    plan = moving.tick().plan
    moving.now_ns += 100 * TICK_NS
    moving.measured = plan[0][-1]
    moving.measure()
    moving.give_chunk()
    tick = moving.stream.tick(moving.now_ns, num_elapsed=101)
    np.testing.assert_array_equal(tick.position, plan[0][-1])
    np.testing.assert_array_equal(tick.velocity, [0.0, 0.0])


def test_old_chunk_stops_the_arm_with_the_reason(moving):
    moving.now_ns += 500_000_000
    tick = moving.tick()
    assert tick.mode is CommandMode.STOPPING
    assert tick.reason.startswith("the observation of the newest chunk is 0.7")


def test_old_joint_state_stops_the_arm_with_the_reason(moving):
    tick = moving.tick(6, measures=False)
    assert tick.mode is CommandMode.STOPPING
    assert tick.reason == "the joint state is 0.120 s old, at most 0.1 s is allowed"


def test_joint_state_from_the_future_stops_the_arm_with_the_reason(moving):
    moving.stream.put_joint_state(moving.measured.copy(), moving.now_ns + 5_000_000_000)
    tick = moving.tick(measures=False)
    assert tick.mode is CommandMode.STOPPING
    assert tick.reason.startswith("the joint state is stamped 5.000 s in the future")


def test_stop_comes_to_rest_and_then_is_silent(moving):
    moving.stream.revoke(2, "no instruction", now_ns=moving.now_ns)
    modes = [moving.tick().mode for _ in range(40)]
    assert modes[0] is CommandMode.STOPPING
    assert modes[-1] is CommandMode.HOLDING
    tick = moving.tick()
    assert (tick.plan, tick.reason) == (None, "no instruction")


def test_stop_of_an_arm_at_rest_is_said_more_than_once(arm):
    arm.measure()
    arm.give_chunk([HOME] * 16)
    arm.tick(5)
    arm.stream.revoke(2, "no instruction", now_ns=arm.now_ns)
    plans = [arm.tick().plan for _ in range(5)]
    assert [plan is not None for plan in plans] == [True, True, True, False, False]
    for positions, velocities in plans[:3]:
        np.testing.assert_allclose(positions, [HOME], atol=1e-9)
        assert not velocities.any()


def test_stop_that_is_called_off_goes_on_without_a_jump(moving):
    moving.stream.revoke(2, "no instruction", now_ns=moving.now_ns)
    plan = moving.tick(2).plan
    moving.give_chunk(epoch=2)
    tick = moving.tick()
    assert tick.mode is CommandMode.EXECUTING
    np.testing.assert_array_equal(tick.position, plan[0][0])


def test_motion_after_a_hold_starts_where_the_arm_is_now(moving):
    moving.stream.revoke(2, "no instruction", now_ns=moving.now_ns)
    moving.tick(40)
    moving.measured = np.array([-0.4, 0.1])
    moving.measure()
    moving.give_chunk(epoch=3)
    np.testing.assert_array_equal(moving.tick().position, [-0.4, 0.1])


def test_chunk_of_an_older_epoch_is_refused(moving):
    moving.stream.revoke(5, "no instruction", now_ns=moving.now_ns)
    with pytest.raises(ChunkError, match="epoch must be at least 5, got a chunk of 4"):
        moving.give_chunk(epoch=4)
    assert moving.tick().mode is CommandMode.STOPPING


def test_revocation_of_an_older_epoch_is_ignored(moving):
    moving.give_chunk(epoch=5)
    moving.stream.revoke(4, "no instruction", now_ns=moving.now_ns)
    assert moving.tick().mode is CommandMode.EXECUTING


def test_restarted_policy_may_count_its_epochs_anew_once_the_old_one_is_silent(moving):
    moving.stream.revoke(60, "no instruction", now_ns=moving.now_ns)
    with pytest.raises(ChunkError, match="epoch must be at least 60, got a chunk of 1"):
        moving.give_chunk(epoch=1)
    moving.tick(40)
    moving.give_chunk(epoch=1)
    assert moving.tick().mode is CommandMode.EXECUTING
    moving.stream.revoke(2, "no instruction", now_ns=moving.now_ns)
    assert moving.tick().mode is CommandMode.STOPPING


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": [[1e30, 0.0], [-1e30, 0.0]]}, r"actions must be within \+-10000"),
        ({"dt_s": 5e-324}, "dt_s must be from 0.001 to 10 s"),
    ],
)
def test_chunk_with_absurd_numbers_is_refused_and_the_one_before_goes_on(moving, changes, message):
    with pytest.raises(ChunkError, match=message):
        moving.give_chunk(**changes)
    assert moving.tick().mode is CommandMode.EXECUTING


def test_chunk_that_is_not_finite_never_moves_the_arm(moving):
    before = moving.tick().plan
    bad = np.full((16, 2), np.nan)
    with pytest.raises(ChunkError, match="must be finite"):
        moving.give_chunk(bad)
    moving.stream.refuse_chunk("actions must be finite")
    tick = moving.tick()
    np.testing.assert_allclose(tick.plan[0][0], before[0][1], atol=1e-12)
    assert (tick.mode, tick.reason) == (CommandMode.EXECUTING, "actions must be finite")


def test_refused_chunk_of_a_new_instruction_stops_the_arm(moving):
    with pytest.raises(ChunkError):
        moving.give_chunk(np.full((16, 2), np.nan), epoch=2)
    assert moving.tick().mode is CommandMode.STOPPING


def test_chunk_for_joints_in_another_order_is_refused(arm):
    arm.measure()
    with pytest.raises(ChunkError, match="shoulder, elbow"):
        arm.give_chunk(joints=("elbow", "shoulder"))


def test_chunk_without_any_joint_state_is_refused(arm):
    with pytest.raises(ChunkError, match="no joint state"):
        arm.give_chunk()


def test_arm_that_does_not_follow_is_stopped_and_held(moving):
    for _ in range(3):
        moving.measured = moving.measured + 0.6
        tick = moving.tick()
    assert tick.mode is CommandMode.STOPPING
    assert "from its command" in tick.reason


def test_tracking_fault_outlasts_new_chunks_until_a_new_epoch(moving):
    moving.measured = moving.measured + 0.6
    moving.tick(2)
    moving.give_chunk(epoch=1)
    assert moving.tick(40).mode is CommandMode.HOLDING
    moving.give_chunk(epoch=2)
    assert moving.tick().mode is CommandMode.EXECUTING


def test_broken_joint_states_are_named_once_the_last_good_one_is_old(moving):
    moving.stream.refuse_joint_state("joint state lacks 'elbow'.")
    assert moving.tick(8, measures=False).reason.endswith("joint state lacks 'elbow'.")


def test_switch_jump_is_told_in_one_tick_only(moving):
    moving.give_chunk(np.linspace(HOME + 0.3, HOME + 1.0, 16), age_s=0.15)
    jumps = [moving.tick().switch_jump for _ in range(2)]
    assert jumps[0] > 0.0
    assert jumps[1] == 0.0


def test_target_out_of_reach_names_the_limited_joint(arm):
    arm.measure()
    arm.give_chunk([[0.0, 9.0]] * 16)
    assert arm.tick().limited_joints == ("elbow",)


@pytest.mark.parametrize(
    "setting", [{"num_lookahead": 2}, {"max_tracking_error": 0.0}, {"start_speed": 0.0}]
)
def test_setting_out_of_range_is_refused(setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=name):
        CommandStream(make_contract(), **setting)


events = st.lists(
    st.sampled_from(["tick", "tick", "tick", "tick", "chunk", "new instruction", "idle", "gap"]),
    min_size=20,
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(events=events, seed=st.integers(0, 2**16))
def test_whatever_happens_the_commands_keep_the_limits(events, seed):
    random = np.random.default_rng(seed)
    arm, epoch = Arm(max_tracking_error=100.0), 1
    curve = []
    for event in events:
        if event == "chunk":
            arm.measure()
            arm.give_chunk(random.uniform(-3, 3, (16, 2)), epoch=epoch)
        elif event == "new instruction":
            epoch += 1
        elif event == "idle":
            epoch += 1
            arm.stream.revoke(epoch, "no instruction", now_ns=arm.now_ns)
        measures = event != "gap"
        for _ in range(1 if measures else 8):
            tick = arm.tick(measures=measures)
            curve.append((tick.position, tick.velocity))
            if tick.plan is not None:
                assert not tick.plan[1][-1].any()
    limit = 6.0 * 0.02 + 1e-9
    for (position, velocity), (next_position, next_velocity) in itertools.pairwise(curve):
        if position is None or next_position is None:
            continue
        assert np.all(np.abs(next_velocity) <= 1.5 + 1e-9)
        assert np.all(np.abs(next_position) <= 2.0 + 1e-9)
        assert np.all(np.abs(next_velocity - velocity) <= limit)
        middle = position + 0.01 * (velocity + next_velocity)
        np.testing.assert_allclose(next_position, middle, atol=1e-7)


def test_clock_that_is_set_back_stops_the_arm_until_joint_states_and_a_chunk_come(arm):
    arm.measure()
    arm.give_chunk(epoch=3)
    assert arm.tick(10).mode is CommandMode.EXECUTING
    arm.now_ns -= 900_000_000
    arm.stream.set_back_clock()
    tick = arm.tick(measures=False)
    assert tick.mode is CommandMode.STOPPING
    assert "the clock was set back" in tick.reason
    assert arm.tick(50).mode is CommandMode.HOLDING
    arm.give_chunk(epoch=1)
    assert arm.tick().mode is CommandMode.EXECUTING


def test_a_stop_reason_brings_the_arm_to_rest_whatever_the_policy_wants(arm):
    arm.measure()
    arm.give_chunk()
    arm.tick(10)
    modes = []
    for _ in range(60):
        arm.measure()
        arm.give_chunk()
        tick = arm.stream.tick(arm.now_ns, stop_reason="emergency stop")
        modes.append(tick.mode)
        arm.now_ns += TICK_NS
    assert modes[0] is CommandMode.STOPPING
    assert modes[-1] is CommandMode.HOLDING
    assert tick.reason == "emergency stop"


@pytest.mark.parametrize(("is_emergency", "num_committed"), [(True, 0), (False, 2)])
def test_an_emergency_stop_does_not_wait_for_what_is_committed(is_emergency, num_committed):
    arm = Arm(commit_s=0.04)
    arm.measure()
    arm.give_chunk(HOME + 0.05 * np.arange(1, 17)[:, None])
    arm.tick(20)
    arm.measure()
    tick = arm.stream.tick(arm.now_ns, stop_reason="stop", is_emergency=is_emergency)
    speeds = np.abs(np.vstack((tick.velocity, tick.plan[1]))).max(axis=1)
    assert np.flatnonzero(np.diff(speeds) < -1e-6)[0] == num_committed


def test_after_a_stop_only_a_later_chunk_is_followed(arm):
    arm.measure()
    arm.give_chunk()
    arm.tick(5)
    arm.stream.tick(arm.now_ns, stop_reason="emergency stop")
    arm.now_ns += TICK_NS
    tick = arm.tick(40)
    assert tick.mode is CommandMode.HOLDING
    arm.give_chunk()
    assert arm.tick().mode is CommandMode.EXECUTING


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
def test_changes_of_who_commands_never_leave_the_limits(script):
    arm = Arm(commit_s=0.04)
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


@pytest.mark.parametrize("kind", ["chunk", "joint state"])
def test_what_is_committed_ends_within_two_ticks_of_the_age_limit(kind):
    arm = Arm(commit_s=0.04, slow_s=0.0, blend_s=0.0)
    arm.measure()
    arm.give_chunk(HOME + 0.1 * np.arange(1, 17)[:, None])
    ticks = [arm.tick() for _ in range(20)]
    limit_ns = arm.now_ns + 80_000_000 if kind == "joint state" else 1_600_000_000
    ticks += [arm.tick(measures=kind == "chunk") for _ in range(30)]
    speeds = np.array([np.abs(tick.velocity).max() for tick in ticks if tick.velocity is not None])
    slower = np.flatnonzero(np.diff(speeds) < -1e-6)
    begin_ns = 1_000_000_000 + int(slower[slower > 18][0]) * TICK_NS
    assert limit_ns - TICK_NS <= begin_ns <= limit_ns + 2 * TICK_NS
    assert kind in ticks[-1].reason


def test_a_chunk_is_reported_from_when_its_part_of_the_plan_is_reached():
    arm = Arm(commit_s=0.04)
    arm.measure()
    arm.give_chunk()
    assert [arm.tick().chunk_sequence for _ in range(4)] == [0, 0, 1, 1]
    arm.give_chunk()
    assert [arm.tick().chunk_sequence for _ in range(4)] == [1, 1, 2, 2]


def moved_by_steps_that_repeat_the_state(**settings):
    """Return how far the elbow gets in 2 s; the chunks come at 25 Hz and begin with the state."""
    arm = Arm(**settings)
    ahead = 0.3 * np.array([0.0, 0.0, *np.arange(1, 11)]) * 0.1
    for _ in range(50):
        arm.measure()
        arm.give_chunk(arm.measured + np.outer(ahead, [0.0, 1.0]), age_s=0.0)
        arm.tick(2)
    return arm.measured[1] - HOME[1]


def test_of_chunks_that_come_quickly_an_ensemble_also_follows_the_later_steps():
    """A policy whose first steps repeat the state would else hold the arm where it is."""
    ensemble = moved_by_steps_that_repeat_the_state(blend_s=0.1, blending="ensemble")
    newest = moved_by_steps_that_repeat_the_state(blend_s=0.1, blending="blend")
    assert newest < 0.05 * ensemble
