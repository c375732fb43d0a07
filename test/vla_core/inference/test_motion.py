# SPDX-License-Identifier: MIT
"""The curve of the commands: limits of every order hold, and a stop is always possible."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_core.sim
from vla_core.errors import ConfigError, SafetyError
from vla_core.inference.motion import Motion
from vla_core.inference.workspace import Workspace
from vla_core.processing.contract import JointLimits, WorkspaceContract
from vla_core.processing.kinematics import KinematicChain
from vla_core.processing.urdf import parse_urdf

SLACK = 1e-7
URDF = Path(vla_core.sim.__file__).parent / "assets" / "tabletop_arm.urdf"
CHAIN = KinematicChain(parse_urdf(URDF.read_text()), "base_link", "tool0")
HOME = np.array([0.0, 0.11231, 1.56362, 0.0, 1.46566, 0.0])
BOX = WorkspaceContract(lower=(0.2, -0.2, 0.05), upper=(0.5, 0.2, 0.4))
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def motions(draw):
    dt_s = draw(st.sampled_from((0.002, 0.005, 0.02)))
    limits = {}
    for i in range(draw(st.integers(1, 3))):
        acceleration = draw(st.floats(0.5, 20.0))
        jerk_time_s = draw(st.sampled_from((None, 1e-3, 0.02, 0.11)))
        limits[f"joint_{i}"] = JointLimits(
            lower=-1.0,
            upper=draw(st.floats(-0.5, 2.0)),
            velocity=draw(st.floats(0.1, 4.0)),
            acceleration=acceleration,
            jerk=None if jerk_time_s is None else acceleration / jerk_time_s,
        )
    return limits, Motion(limits, dt_s, commit_s=draw(st.sampled_from((0.0, 0.012, 0.04))))


def random_run(limits, motion, seed, num_ticks=80, *, has_emergencies=False):
    """Yield position and velocity of every tick while following and stopping at random."""
    rng = np.random.default_rng(seed)
    lower = np.array([limit.lower for limit in limits.values()])
    upper = np.array([limit.upper for limit in limits.values()])
    motion.start(rng.uniform(lower, upper))
    target, speed = motion.position, np.zeros_like(lower)
    for _ in range(num_ticks):
        yield motion.position, motion.velocity
        if rng.random() < 0.15:
            target, speed = (
                rng.uniform(lower - 1.0, upper + 1.0),
                rng.uniform(-5.0, 5.0, len(lower)),
            )
        if rng.random() < 0.1:
            motion.stop(at_once=has_emergencies and rng.random() < 0.5)
        else:
            rows = np.arange(1, 4)[:, None] * speed * 0.01
            motion.follow(target + rows, np.tile(speed, (3, 1)))
        motion.advance(1)


@settings(max_examples=60, deadline=None)
@given(motions(), SEEDS)
def test_position_velocity_acceleration_and_jerk_stay_within_their_limits(made, seed):
    limits, motion = made
    dt_s = motion.limiter.dt_s
    positions, velocities = (
        np.array(p)
        for p in zip(*random_run(limits, motion, seed, has_emergencies=True), strict=True)
    )
    accelerations = np.diff(velocities, axis=0) / dt_s
    jerks = np.diff(np.vstack((np.zeros(len(limits)), accelerations)), axis=0) / dt_s
    for column, limit in enumerate(limits.values()):
        assert positions[:, column].min() >= limit.lower - SLACK
        assert positions[:, column].max() <= limit.upper + SLACK
        assert np.abs(velocities[:, column]).max() <= limit.velocity + SLACK
        assert np.abs(accelerations[:, column]).max() <= limit.acceleration * (1.0 + SLACK) + SLACK
        if limit.jerk is not None:
            assert np.abs(jerks[:, column]).max() <= limit.jerk * (1.0 + 1e-6)
    moved = 0.5 * dt_s * (velocities[:-1] + velocities[1:])
    np.testing.assert_allclose(np.diff(positions, axis=0), moved, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(motions(), SEEDS)
def test_every_plan_ends_at_rest_within_the_limits(made, seed):
    limits, motion = made
    dt_s = motion.limiter.dt_s
    for _ in random_run(limits, motion, seed, num_ticks=25):
        if motion.plan is None:
            continue
        positions, velocities = motion.plan
        assert not velocities[-1].any()
        assert (positions >= motion.limiter.lower - SLACK).all()
        assert (positions <= motion.limiter.upper + SLACK).all()
        changes = np.abs(np.diff(np.vstack((motion.velocity, velocities)), axis=0)) / dt_s
        assert (changes <= motion.limiter.acceleration * (1.0 + SLACK) + SLACK).all()


@settings(max_examples=30, deadline=None)
@given(motions(), SEEDS, st.booleans())
def test_stop_comes_to_rest_and_stays(made, seed, at_once):
    limits, motion = made
    list(random_run(limits, motion, seed, num_ticks=20))
    for _ in range(10_000):
        if motion.is_at_rest:
            break
        motion.stop(at_once=at_once)
        motion.advance(1)
    assert motion.is_at_rest
    before = motion.position
    motion.stop()
    motion.advance(1)
    np.testing.assert_allclose(motion.position, before, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(motions(), SEEDS)
def test_a_plan_keeps_what_the_one_before_has_committed(made, seed):
    limits, motion = made
    before = None
    for _ in random_run(limits, motion, seed, num_ticks=25):
        if before is not None:
            kept = max(0, motion.num_committed - 1)
            for old, new in zip(before, motion.plan, strict=True):
                np.testing.assert_allclose(new[:kept], old[1 : kept + 1], atol=1e-12)
        before = motion.plan


@pytest.mark.parametrize("num_ticks", [1, 2, 5, 12])
@pytest.mark.parametrize("jerk", [None, 100.0])
def test_late_tick_goes_on_where_the_plan_has_led(num_ticks, jerk):
    limits = {"j": JointLimits(lower=-1.0, upper=1.0, velocity=1.0, acceleration=5.0, jerk=jerk)}
    motion = Motion(limits, 0.02)
    motion.start(np.zeros(1))
    for _ in range(8):
        motion.follow(np.full((3, 1), 0.9), np.zeros((3, 1)))
        motion.advance(1)
    motion.follow(np.full((3, 1), 0.9), np.zeros((3, 1)))
    positions, velocities = motion.plan
    motion.advance(num_ticks)
    index = min(num_ticks, len(positions)) - 1
    np.testing.assert_array_equal(motion.position, positions[index])
    motion.follow(np.full((3, 1), 0.9), np.zeros((3, 1)))
    change = np.abs(motion.plan[1][0] - velocities[index])
    assert (change <= 5.0 * 0.02 + SLACK).all()


@pytest.mark.parametrize(
    ("follows_plans", "num_ticks", "num_passed"),
    [(True, 4, 3), (True, 100, None), (False, 4, 0), (False, 13, None)],
)
def test_a_plan_tells_for_a_while_where_the_arm_is(follows_plans, num_ticks, num_passed):
    limits = {"j": JointLimits(lower=-1.0, upper=1.0, velocity=1.0, acceleration=5.0)}
    motion = Motion(limits, 0.02, follows_plans=follows_plans)
    motion.start(np.zeros(1))
    motion.follow(np.full((3, 1), 0.9), np.zeros((3, 1)))
    positions = motion.plan[0]
    passed = motion.advance(num_ticks)
    if num_passed is None:
        assert motion.plan is None
    else:
        np.testing.assert_array_equal(passed, positions[:num_passed])
        np.testing.assert_array_equal(motion.position, positions[num_passed])


def test_limited_jerk_is_made_up_for_by_asking_earlier():
    limit = JointLimits(lower=-2.0, upper=2.0, velocity=2.0, acceleration=8.0, jerk=100.0)
    motion = Motion({"j": limit}, 0.01)
    assert motion.lead_s == pytest.approx(0.075)
    motion.start(np.zeros(1))
    errors = []
    for tick in range(400):
        t = tick * 0.01
        errors.append(motion.position[0] - 0.5 * np.sin(t))
        due = t + motion.lead_s + 0.01 * np.arange(1, 4)[:, None]
        motion.follow(0.5 * np.sin(due), 0.5 * np.cos(due))
        motion.advance(1)
    assert np.abs(errors[60:]).max() < 1e-3


def test_jerk_that_would_take_too_long_is_refused():
    limit = JointLimits(lower=-1.0, upper=1.0, velocity=1.0, acceleration=10.0, jerk=10.0)
    with pytest.raises(ConfigError, match=r"limits\.wrist: jerk 10 takes 2\.00 s"):
        Motion({"wrist": limit}, 0.02)


def test_speed_is_a_share_of_the_velocity_limit():
    limits = {"j": JointLimits(lower=-5.0, upper=5.0, velocity=2.0, acceleration=50.0)}
    motion = Motion(limits, 0.02)
    motion.start(np.zeros(1))
    for _ in range(30):
        motion.follow(np.full((3, 1), 4.0), np.zeros((3, 1)), speed=0.25)
        motion.advance(1)
        assert motion.velocity[0] <= 0.5 + SLACK
    assert motion.velocity[0] == pytest.approx(0.5)


def test_target_that_is_not_finite_is_refused():
    motion = Motion({"j": JointLimits(lower=-1, upper=1, velocity=1, acceleration=5)}, 0.02)
    motion.start(np.zeros(1))
    with pytest.raises(SafetyError, match="target must be finite"):
        motion.follow(np.full((3, 1), np.nan), np.zeros((3, 1)))


def arm_motion(jerk=None, box=BOX) -> Motion:
    limits = {
        name: JointLimits(lower=low, upper=high, velocity=2.0, acceleration=15.0, jerk=jerk)
        for name, low, high in zip(CHAIN.joints, CHAIN.lower, CHAIN.upper, strict=True)
    }
    return Motion(limits, 0.02, Workspace(box, CHAIN, limits))


@pytest.mark.parametrize("jerk", [None, 300.0])
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_tool_never_leaves_the_workspace_whatever_is_asked(jerk, seed):
    rng = np.random.default_rng(seed)
    motion = arm_motion(jerk)
    motion.start(HOME)
    target, curve, excesses = HOME, [], []
    for _ in range(80):
        if rng.random() < 0.1:
            target = np.clip(HOME + rng.normal(0.0, 1.0, 6), CHAIN.lower, CHAIN.upper)
        if rng.random() < 0.05:
            motion.stop(at_once=rng.random() < 0.5)
        else:
            cut = motion.follow(np.tile(target, (3, 1)), np.zeros((3, 6)))
            excesses.append(cut.workspace_m)
        plan = CHAIN.tool_positions(motion.plan[0])
        assert (plan >= np.array(BOX.lower) - 1e-5).all()
        assert (plan <= np.array(BOX.upper) + 1e-5).all()
        motion.advance(int(rng.choice((1, 1, 1, 4))))
        curve.append(motion.velocity)
    assert np.abs(curve).max() <= 2.0 + SLACK
    assert min(excesses) == 0.0


def test_arm_brakes_before_the_side_of_the_workspace_and_says_so():
    motion = arm_motion()
    motion.start(HOME)
    target = HOME + np.array([1.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    cuts = []
    for _ in range(60):
        cuts.append(motion.follow(np.tile(target, (3, 1)), np.zeros((3, 6))).workspace_m)
        motion.advance(1)
    tool = CHAIN.tool_pose(motion.position)[0]
    assert 0.12 < tool[1] <= 0.2 + 1e-5
    assert cuts[0] == 0.0
    assert max(cuts) > 0.0
    assert motion.is_at_rest


def test_motion_that_begins_outside_may_only_come_back():
    motion = arm_motion(box=WorkspaceContract(lower=(0.2, -0.2, 0.05), upper=(0.5, 0.2, 0.1)))
    outside = HOME + np.array([0.0, -0.3, 0.0, 0.0, 0.0, 0.0])
    assert CHAIN.tool_pose(outside)[0][2] > 0.15
    for target, may_move in ((2 * outside - HOME, False), (HOME, True)):
        motion.start(outside)
        cut = motion.follow(np.tile(target, (3, 1)), np.zeros((3, 6)))
        assert (cut.workspace_m == 0.0) is may_move
        assert bool(motion.plan[1].any()) is may_move
