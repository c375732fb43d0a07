# SPDX-License-Identifier: MIT
"""The command stream of a real arm: kinds of action, safe start, slowing down, all limits."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_core.sim
from vla_core.errors import ChunkError, ConfigError
from vla_core.inference.command_stream import CommandMode, CommandStream
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.kinematics import limits_and_chain
from vla_core.types import ActionChunk

URDF = Path(vla_core.sim.__file__).parent / "assets" / "tabletop_arm.urdf"
KINEMATICS = {"urdf": str(URDF), "base_link": "base_link", "tip_link": "tool0"}
HOME = np.array([0.0, 0.11231, 1.56362, 0.0, 1.46566, 0.0, 0.04])
BOX = {"lower": [0.2, -0.2, 0.05], "upper": [0.5, 0.2, 0.45]}
GRIPPER = {"gripper_joint": {"open": 0.045, "closed": 0.0}}
TICK_NS = 20_000_000


def make_contract(*, jerk=None, action=None, **parts) -> RobotContract:
    data = load_contract("sim").to_dict()
    data["action"] |= action or {}
    data["state"]["max_age_s"] = 0.15
    if jerk is not None:
        data["limits"] = {name: {**limit, "jerk": jerk} for name, limit in data["limits"].items()}
    return RobotContract.from_dict({**data, **parts})


class Arm:
    """A stream with an arm that follows its plan perfectly, ticked on a clock of its own."""

    def __init__(self, contract, **settings):
        self.stream = CommandStream(contract, **settings)
        self.contract = contract
        self.now_ns = 1_000_000_000
        self.measured = HOME.copy()
        self.sequence = itertools.count(1)
        self.ticks = []

    def give(self, actions, *, epoch=1, age_s=0.0, dt_s=0.1):
        actions = np.asarray(actions, dtype=np.float64)
        chunk = ActionChunk(
            actions=actions,
            policy_actions=actions.astype(np.float32),
            joints=self.contract.action_names,
            dt_s=dt_s,
            stamp_ns=self.now_ns - round(age_s * 1e9),
            checkpoint_id="test",
            instruction="move",
            kind=self.contract.action.kind,
        )
        self.stream.put_joint_state(self.measured.copy(), self.now_ns)
        self.stream.put_chunk(chunk, sequence=next(self.sequence), epoch=epoch, now_ns=self.now_ns)

    def tick(self, num=1):
        for _ in range(num):
            self.stream.put_joint_state(self.measured.copy(), self.now_ns)
            tick = self.stream.tick(self.now_ns)
            self.ticks.append(tick)
            self.now_ns += TICK_NS
            if tick.plan is not None:
                self.measured = tick.plan[0][0]
        return tick

    def velocities(self):
        return np.array([tick.velocity for tick in self.ticks if tick.velocity is not None])


def moved(**joints) -> np.ndarray:
    target = HOME.copy()
    for name, value in joints.items():
        target[int(name[1:]) - 1] += value
    return target


def test_first_action_of_a_motion_is_approached_at_a_share_of_the_speed():
    arm = Arm(make_contract(action={"max_age_s": 3.0}), start_speed=0.2)
    arm.give(np.tile(moved(j1=1.0), (30, 1)))
    arm.tick(40)
    # One limit is 2 rad/s.
    assert np.abs(arm.velocities()).max() == pytest.approx(0.4, abs=1e-6)


def test_after_the_first_action_was_reached_the_full_speed_is_allowed():
    arm = Arm(make_contract(action={"max_age_s": 3.0}), start_speed=0.1)
    arm.give(np.tile(HOME, (30, 1)))
    arm.tick(3)
    arm.give(np.tile(moved(j1=1.0), (30, 1)))
    arm.tick(40)
    assert np.abs(arm.velocities()).max() > 1.5


def test_next_motion_starts_slowly_again():
    arm = Arm(make_contract(action={"max_age_s": 3.0}), start_speed=0.2)
    arm.give(np.tile(HOME, (30, 1)))
    arm.tick(3)
    arm.stream.revoke(2, "idle", now_ns=arm.now_ns)
    arm.tick(10)
    assert arm.stream.mode is CommandMode.HOLDING
    arm.give(np.tile(moved(j1=1.0), (30, 1)), epoch=3)
    arm.tick(30)
    assert np.abs(arm.velocities()).max() <= 0.4 + 1e-6


def straight(num, speed, dt_s=0.1):
    """Return a chunk of the first joint at constant speed."""
    actions = np.tile(HOME, (num, 1))
    actions[:, 0] += speed * dt_s * np.arange(1, num + 1)
    return actions


def test_arm_slows_down_before_the_age_limit_instead_of_braking_from_full_speed():
    speeds = {}
    for slow_s in (0.0, 0.2):
        arm = Arm(make_contract(), slow_s=slow_s, start_speed=1.0)
        arm.give(straight(16, 1.0))
        arm.tick(60)
        moving = [t for t in arm.ticks if t.mode is CommandMode.EXECUTING]
        speeds[slow_s] = moving[-1].velocity[0]
        assert arm.ticks[-1].mode is CommandMode.HOLDING
        paces = [tick.pace for tick in moving]
        assert (min(paces) < 0.6) is (slow_s > 0.0)
    assert speeds[0.0] == pytest.approx(1.0, abs=0.01)
    assert speeds[0.2] < 0.6


@pytest.mark.parametrize(("jerk", "oldest_s"), [(None, 0.5), (150.0, 0.2)])
@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.0, 1.0), offset_ns=st.integers(0, TICK_NS - 1))
def test_deceleration_begins_within_two_periods_of_the_age_limit(jerk, oldest_s, share, offset_ns):
    """Of an arm that no longer speeds up: limited jerk takes its time to turn that round."""
    age_s = share * oldest_s
    arm = Arm(make_contract(jerk=jerk), slow_s=0.0, start_speed=1.0)
    arm.give(straight(16, 1.0), age_s=age_s)
    stamp_ns = arm.now_ns - round(age_s * 1e9)
    arm.now_ns += offset_ns
    arm.tick(60)
    limit_ns = stamp_ns + 600_000_000
    first_ns = 1_000_000_000 + offset_ns
    late = [i for i in range(60) if first_ns + i * TICK_NS >= limit_ns + 2 * TICK_NS]
    speeds = [abs(t.velocity[0]) if t.velocity is not None else 0.0 for t in arm.ticks]
    for i in late:
        assert speeds[i] < speeds[i - 1] or speeds[i] == 0.0
    assert speeds[-1] == 0.0


@settings(max_examples=40, deadline=None)
@given(
    latency_s=st.floats(0.02, 0.8),
    seed=st.integers(0, 2**32 - 1),
    blending=st.sampled_from(("blend", "ensemble")),
    jerk=st.sampled_from((None, 200.0)),
)
def test_switch_to_a_chunk_of_any_latency_is_continuous(latency_s, seed, blending, jerk):
    rng = np.random.default_rng(seed)
    contract = make_contract(jerk=jerk, action={"max_age_s": 1.0})
    arm = Arm(contract, blending=blending)
    arm.give(HOME + np.cumsum(rng.normal(0.0, 0.1, (16, 7)), axis=0))
    for _ in range(3):
        observed = arm.measured
        arm.tick(round(latency_s * 1e9) // TICK_NS + 1)
        wanted = observed + np.cumsum(rng.normal(0.0, 0.1, (16, 7)), axis=0)
        arm.give(wanted, age_s=latency_s)
        arm.tick(int(rng.integers(1, 8)))
    assert sum(tick.switch_jump > 0.0 for tick in arm.ticks) >= 1
    assert_within_limits(contract, arm.ticks)


def assert_within_limits(contract, ticks, box=None):
    """Check every run of ticks with commands, and the plans that they sent."""
    limits, chain = limits_and_chain(contract)
    lower, upper, velocity, acceleration = (
        np.array([getattr(limit, name) for limit in limits.values()])
        for name in ("lower", "upper", "velocity", "acceleration")
    )
    jerk = np.array([limit.jerk or np.inf for limit in limits.values()])
    dt_s = contract.command.dt_s
    for has_command, run in itertools.groupby(ticks, key=lambda tick: tick.position is not None):
        if not has_command:
            continue
        of_run = list(run)
        velocities = np.vstack([t.velocity for t in of_run] + [of_run[-1].plan[1]])
        positions = np.vstack([t.position for t in of_run] + [t.plan[0] for t in of_run])
        accelerations = np.diff(velocities, axis=0) / dt_s
        jerks = np.diff(accelerations, axis=0) / dt_s
        assert (positions >= lower - 1e-7).all()
        assert (positions <= upper + 1e-7).all()
        assert (np.abs(velocities) <= velocity + 1e-7).all()
        assert (np.abs(accelerations) <= acceleration * (1.0 + 1e-6)).all()
        assert (np.abs(jerks) <= jerk * (1.0 + 1e-6)).all()
        assert not any(t.plan[1][-1].any() for t in of_run)
        if box is not None:
            tools = chain.tool_positions(positions[:, :6])
            assert (tools >= np.array(box["lower"]) - 1e-5).all()
            assert (tools <= np.array(box["upper"]) + 1e-5).all()


def random_chunk(rng, kind, measured):
    num, size = int(rng.integers(1, 17)), rng.choice((0.02, 0.1, 1.0))
    if kind == "joint_position":
        return measured + np.cumsum(rng.normal(0.0, size, (num, 7)), axis=0)
    actions = rng.normal(0.0, size, (num, 7))
    if kind == "end_effector_delta":
        actions[:, :3] *= 0.2
    actions[:, 6] = rng.uniform(-0.01, 0.06, num)
    return actions


@pytest.mark.parametrize("kind", ["joint_position", "joint_delta", "end_effector_delta"])
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    jerk=st.sampled_from((None, 300.0)),
    mode=st.sampled_from(("clamp", "strict")),
    max_step=st.sampled_from((None, 0.1)),
    box=st.sampled_from((None, BOX)),
)
def test_no_command_is_ever_outside_any_limit(kind, seed, jerk, mode, max_step, box):
    """Random chunks, losses, new instructions, late ticks, gaps of joint states."""
    rng = np.random.default_rng(seed)
    contract = make_contract(
        jerk=jerk,
        action={"kind": kind},
        kinematics=KINEMATICS,
        grippers={"gripper_joint": {**GRIPPER["gripper_joint"], "mode": "binary"}},
        safety={"limit_mode": mode, "max_step": max_step},
        workspace=box,
    )
    blending = str(rng.choice(("blend", "ensemble")))
    arm = Arm(contract, blending=blending, max_tracking_error=100.0)
    epoch = 1
    for _ in range(60):
        event = rng.random()
        if event < 0.2:
            try:
                age_s = float(rng.uniform(0.0, 0.7))
                arm.give(random_chunk(rng, kind, arm.measured), epoch=epoch, age_s=age_s)
            except ChunkError as error:
                arm.stream.refuse_chunk(str(error))
        elif event < 0.25:
            epoch += 1
            arm.stream.revoke(epoch, "idle", now_ns=arm.now_ns)
        elif event < 0.28:
            arm.now_ns += 200_000_000
            arm.stream.put_joint_state(arm.measured, arm.now_ns - 180_000_000)
            late = arm.stream.tick(arm.now_ns, num_elapsed=11)
            assert_within_limits(contract, [late], box)
            break
        arm.tick()
    assert_within_limits(contract, arm.ticks, box)


def test_joint_changes_add_up_from_what_was_commanded_not_measured():
    arm = Arm(make_contract(action={"kind": "joint_delta", "max_age_s": 2.0}, grippers=GRIPPER))
    change = np.tile([0.05, 0, 0, 0, 0, 0, 0.04], (10, 1))
    arm.give(change)
    arm.tick(20)
    commanded = arm.ticks[-1].position[0]
    arm.measured = arm.measured - 0.1
    arm.give(np.tile([0, 0, 0, 0, 0, 0, 0.04], (10, 1)), age_s=0.02)
    arm.measured = arm.measured + 0.1
    arm.tick(40)
    assert arm.measured[0] == pytest.approx(commanded, abs=1e-3)


@pytest.mark.parametrize(("frame", "axis"), [("base", 0), ("tool", 2)])
def test_tool_moves_by_its_changes_along_the_axes_of_their_frame(frame, axis):
    action = {"kind": "end_effector_delta", "delta_frame": frame, "max_age_s": 3.0}
    contract = make_contract(action=action, kinematics=KINEMATICS, grippers=GRIPPER)
    arm = Arm(contract)
    _, chain = limits_and_chain(contract)
    before, rotation = chain.tool_pose(HOME[:6])
    step = np.zeros(7)
    step[axis], step[6] = 0.01, 0.02
    arm.give(np.tile(step, (5, 1)))
    arm.tick(60)
    after, turned = chain.tool_pose(arm.measured[:6])
    direction = np.eye(3)[axis] if frame == "base" else rotation[:, axis]
    np.testing.assert_allclose(after - before, 0.05 * direction, atol=1e-3)
    np.testing.assert_allclose(turned, rotation, atol=5e-3)
    assert arm.measured[6] == pytest.approx(0.02, abs=1e-6)


def test_gripper_that_only_opens_and_closes_is_sent_all_the_way():
    gripper = {"gripper_joint": {"open": 0.045, "closed": 0.0, "mode": "binary"}}
    arm = Arm(make_contract(action={"max_age_s": 3.0}, grippers=gripper))
    half_closed = HOME.copy()
    half_closed[6] = 0.015
    arm.give(np.tile(half_closed, (20, 1)))
    tick = arm.tick()
    # At first the curve is still where the arm was.
    assert tick.target[6] == 0.045
    arm.tick(40)
    assert arm.ticks[-1].target[6] == 0.0
    assert arm.measured[6] == pytest.approx(0.0, abs=1e-9)


def test_what_is_cut_is_told_per_joint_with_its_amount():
    arm = Arm(make_contract(action={"max_age_s": 3.0}), start_speed=1.0)
    arm.give(np.tile(moved(j1=3.0), (20, 1)))
    arm.tick(120)
    tick = arm.ticks[-1]
    assert tick.limited_joints == ("joint_1",)
    assert tick.joint_cuts == pytest.approx((0.2,), abs=1e-6)


def test_target_far_from_the_measured_position_is_brought_near_and_reported():
    arm = Arm(make_contract(action={"max_age_s": 3.0}, safety={"max_step": 0.05}))
    arm.give(np.tile(moved(j1=0.5), (20, 1)))
    arm.tick(8)
    assert arm.ticks[-1].limited_joints == ("joint_1",)
    assert arm.ticks[-1].joint_cuts[0] > 0.1
    distances = [abs(t.plan[0][-1][0] - t.position[0]) for t in arm.ticks]
    assert max(distances) < 0.06


def test_gripper_that_holds_something_may_stay_far_from_its_target():
    arm = Arm(
        make_contract(action={"max_age_s": 3.0}, grippers=GRIPPER, safety={"max_step": 0.001})
    )
    closed = HOME.copy()
    closed[6] = 0.0
    arm.give(np.tile(closed, (20, 1)))
    arm.tick(60)
    assert arm.measured[6] == pytest.approx(0.0, abs=1e-6)


def strict(**safety):
    return Arm(
        make_contract(
            safety={"limit_mode": "strict", **safety}, kinematics=KINEMATICS, workspace=BOX
        )
    )


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (moved(j1=3.0), "a chunk is out of limits: the tool would leave the workspace"),
        (moved(j6=2.9), "a chunk is out of limits: joint_6 would leave its range by 0.1"),
    ],
)
def test_strict_mode_stops_at_a_chunk_out_of_limits_until_a_new_instruction(target, reason):
    arm = strict()
    arm.give(np.tile(HOME, (16, 1)))
    assert arm.tick(3).mode is CommandMode.EXECUTING
    with pytest.raises(ChunkError, match=reason):
        arm.give(np.tile(target, (16, 1)))
    tick = arm.tick()
    assert tick.mode is CommandMode.STOPPING
    assert tick.reason.startswith(reason)
    arm.give(np.tile(HOME, (16, 1)))
    assert arm.tick(10).mode is CommandMode.HOLDING
    arm.give(np.tile(HOME, (16, 1)), epoch=2)
    assert arm.tick().mode is CommandMode.EXECUTING


def test_strict_mode_stops_at_a_target_far_from_the_measured_position():
    arm = strict(max_step=0.05)
    arm.give(np.tile(moved(j1=0.1), (16, 1)), age_s=0.1)
    tick = arm.tick(2)
    assert tick.mode is CommandMode.STOPPING
    assert tick.reason.startswith("a target of joint_1 is too far from where it is; give a new")
    assert arm.tick(20).mode is CommandMode.HOLDING


def test_limits_of_the_urdf_count_where_they_are_stricter():
    text = URDF.read_text().replace('upper="2.8" velocity="2.5"', 'upper="0.3" velocity="0.5"')
    arm = Arm(make_contract(kinematics=KINEMATICS, action={"max_age_s": 3.0}), urdf=text)
    arm.give(np.tile(moved(j1=1.0), (30, 1)))
    arm.tick(100)
    assert arm.measured[0] == pytest.approx(0.3, abs=1e-6)
    assert np.abs(arm.velocities()[:, 0]).max() <= 0.5 + 1e-9


def test_urdf_of_a_topic_must_be_passed_as_text():
    contract = make_contract(kinematics={**KINEMATICS, "urdf": "topic://robot_description"})
    with pytest.raises(ConfigError, match="is a topic; whoever subscribes"):
        CommandStream(contract)
    assert CommandStream(contract, urdf=URDF.read_text()).mode is CommandMode.WAITING


def test_chunk_of_another_kind_than_the_contract_says_is_refused():
    arm = Arm(make_contract())
    other = Arm(make_contract(action={"kind": "joint_delta"}))
    arm.contract = other.contract
    with pytest.raises(ChunkError, match="kind must be 'joint_position' like the contract's"):
        arm.give(np.tile(HOME, (4, 1)))
