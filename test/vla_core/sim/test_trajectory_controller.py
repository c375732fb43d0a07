# SPDX-License-Identifier: MIT
from types import SimpleNamespace

import numpy as np
import pytest

from vla_core.errors import ConfigError, ShapeError
from vla_core.sim.trajectory_controller import (
    DISTROS,
    TrajectoryController,
    TrajectoryRejectedError,
)

JOINTS = ("a", "b")
NOW = 1_700_000_000_000_000_000


def seconds(value):
    whole, rest = divmod(round(value * 1e9), 1_000_000_000)
    return SimpleNamespace(sec=whole, nanosec=rest)


def make_point(time, positions, velocities=(), accelerations=(), effort=()):
    return SimpleNamespace(
        time_from_start=seconds(time),
        positions=list(positions),
        velocities=list(velocities),
        accelerations=list(accelerations),
        effort=list(effort),
    )


def make_trajectory(points, *, joints=JOINTS, stamp_ns=0):
    stamp = SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp), joint_names=list(joints), points=points
    )


def at(time):
    return NOW + round(time * 1e9)


def positions_over(controller, times):
    return np.array([controller.sample(at(t))[0] for t in times])


GOOD = [make_point(0.1, (0.1, 0.2), (0.3, 0.1)), make_point(0.2, (0.2, 0.2), (0.0, 0.0))]

REJECTIONS = {
    "no joint names": ("joints", make_trajectory(GOOD, joints=())),
    "partial joints": ("joints", make_trajectory([make_point(0.1, [0.1])], joints=("a",))),
    "unknown joint": ("joints", make_trajectory(GOOD, joints=("a", "c"))),
    "joint given twice": ("joints", make_trajectory(GOOD, joints=("a", "a"))),
    "no points": ("empty", make_trajectory([])),
    "moves at the end": ("end_velocity", make_trajectory([make_point(0.1, (0, 0), (0, 1e-3))])),
    "stamped now at time 0": (
        "past",
        make_trajectory([make_point(0.0, (0, 0))], stamp_ns=NOW - 1),
    ),
    "ended in the past": ("past", make_trajectory(GOOD, stamp_ns=NOW - 200_000_001)),
    "same time twice": ("times", make_trajectory([GOOD[0], make_point(0.1, (0, 0))])),
    "times going back": ("times", make_trajectory([GOOD[1], make_point(0.1, (0, 0))])),
    "no positions": ("lengths", make_trajectory([make_point(0.1, (), (0, 0))])),
    "too few positions": ("lengths", make_trajectory([make_point(0.1, [0.1])])),
    "too many velocities": ("lengths", make_trajectory([make_point(0.1, (0, 0), (0, 0, 0))])),
    "too few accelerations": ("lengths", make_trajectory([make_point(0.1, (0, 0), (0, 0), [0])])),
    "effort": ("effort", make_trajectory([make_point(0.1, (0, 0), effort=(1, 1))])),
    "NaN position": ("values", make_trajectory([make_point(0.1, (0, np.nan))])),
    "infinite velocity": (
        "values",
        make_trajectory([make_point(0.1, (0, 0), (0, np.inf)), make_point(0.2, (0, 0))]),
    ),
    "accelerations alone": ("values", make_trajectory([make_point(0.1, (0, 0), (), (0, 0))])),
}


@pytest.mark.parametrize("name", REJECTIONS)
def test_message_is_rejected_with_its_cause(name):
    cause, message = REJECTIONS[name]
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    with pytest.raises(TrajectoryRejectedError) as error:
        controller.replace(message, NOW)
    assert error.value.cause == cause


def test_rejected_message_leaves_the_present_trajectory_running():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    controller.replace(make_trajectory([make_point(1.0, (1.0, 2.0))]), NOW)
    controller.sample(at(0.0))
    with pytest.raises(TrajectoryRejectedError):
        controller.replace(make_trajectory([]), at(0.5))
    np.testing.assert_allclose(controller.sample(at(0.5))[0], (0.5, 1.0))


def test_humble_accepts_a_trajectory_that_ends_moving_and_holds_its_last_position():
    controller = TrajectoryController(JOINTS, (0.0, 0.0), distro="humble")
    controller.replace(make_trajectory([make_point(0.1, (0.1, 0.0), (1.0, 0.0))]), NOW)
    controller.sample(at(0.0))
    np.testing.assert_allclose(controller.sample(at(0.5))[0], (0.1, 0.0))


def test_unknown_distro_is_refused_with_the_available_ones():
    with pytest.raises(ConfigError, match=r"'kinetic'.*humble, jazzy, kilted, lyrical, rolling"):
        TrajectoryController(JOINTS, (0.0, 0.0), distro="kinetic")


def test_controller_holds_its_first_positions_without_a_trajectory():
    controller = TrajectoryController(JOINTS, (0.3, -0.2))
    positions, velocities = controller.sample(NOW)
    np.testing.assert_array_equal(positions, (0.3, -0.2))
    np.testing.assert_array_equal(velocities, (0.0, 0.0))


def test_joints_may_come_in_any_order():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    controller.replace(make_trajectory([make_point(0.0, (2.0, 1.0))], joints=("b", "a")), NOW)
    np.testing.assert_array_equal(controller.sample(NOW)[0], (1.0, 2.0))


def test_first_point_at_time_zero_is_a_step():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    controller.sample(at(-0.01))
    controller.replace(make_trajectory([make_point(0.0, (1.0, 1.0))]), NOW)
    np.testing.assert_array_equal(controller.sample(NOW)[0], (1.0, 1.0))


def test_stamp_zero_starts_at_the_first_sample_after_arrival():
    controller = TrajectoryController(JOINTS, (0.0, 0.0), distro="humble")
    controller.replace(make_trajectory([make_point(1.0, (1.0, 1.0))]), at(-0.3))
    np.testing.assert_allclose(
        positions_over(controller, [0.0, 0.25, 1.0])[:, 0], [0.0, 0.25, 1.0]
    )


def test_future_stamp_is_approached_until_its_first_point():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    message = make_trajectory([make_point(0.0, (1.0, 1.0))], stamp_ns=at(1.0))
    controller.replace(message, NOW)
    np.testing.assert_allclose(
        positions_over(controller, [0.0, 0.5, 1.0])[:, 0], [0.0, 0.5, 1.0], atol=1e-12
    )


def test_past_stamp_keeps_its_time_base_so_that_the_command_jumps():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    points = [make_point(0.0, (0.0, 0.0)), make_point(1.0, (1.0, 2.0))]
    controller.sample(at(-0.01))
    controller.replace(make_trajectory(points, stamp_ns=at(-0.6)), NOW)
    np.testing.assert_allclose(controller.sample(NOW)[0], (0.6, 1.2))


def test_trajectory_that_ends_exactly_now_is_accepted():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    controller.replace(make_trajectory([make_point(0.0, (1.0, 1.0))], stamp_ns=NOW), NOW)
    np.testing.assert_array_equal(controller.sample(NOW)[0], (1.0, 1.0))


def test_positions_alone_are_joined_by_lines_whose_velocity_jumps():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    controller.replace(
        make_trajectory([make_point(1.0, (1.0, 0.0)), make_point(2.0, (0.0, 0.0))]), NOW
    )
    controller.sample(at(0.0))
    assert controller.sample(at(0.999))[1][0] == pytest.approx(1.0)
    assert controller.sample(at(1.001))[1][0] == pytest.approx(-1.0)


def test_velocities_make_position_and_velocity_continuous_and_meet_every_point():
    rng = np.random.default_rng(0)
    times = np.array([0.1, 0.25, 0.3, 0.6])
    targets, speeds = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    speeds[-1] = 0.0
    points = [make_point(*row) for row in zip(times, targets, speeds, strict=True)]
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    controller.replace(make_trajectory(points), NOW)
    controller.sample(NOW)
    for time, target, speed in zip(times, targets, speeds, strict=True):
        for side in (-1e-7, 1e-7):
            positions, velocities = controller.sample(at(time + side))
            np.testing.assert_allclose(positions, target, atol=1e-5)
            np.testing.assert_allclose(velocities, speed, atol=1e-3)


def test_sampled_velocity_is_the_derivative_of_the_sampled_position():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    points = [
        make_point(0.5, (0.4, 0.1), (1.0, -1.0), (0.5, 0.5)),
        make_point(1.0, (0.5, 0.3), (0.0, 0.0), (0.0, 0.0)),
    ]
    controller.replace(make_trajectory(points), NOW)
    controller.sample(NOW)
    for time in np.linspace(0.05, 0.95, 10):
        before, after = positions_over(controller, [time - 1e-4, time + 1e-4])
        middle = TrajectoryController(JOINTS, (0.0, 0.0))
        middle.replace(make_trajectory(points), NOW)
        middle.sample(NOW)
        np.testing.assert_allclose((after - before) / 2e-4, middle.sample(at(time))[1], atol=1e-5)


def test_positions_velocities_and_accelerations_reproduce_a_quintic():
    curve = np.polynomial.Polynomial([0.0, 0.0, 0.0, 10.0, -15.0, 6.0])
    times = (0.2, 0.7, 1.0)
    points = [
        make_point(t, [curve(t)] * 2, [curve.deriv()(t)] * 2, [curve.deriv(2)(t)] * 2)
        for t in times
    ]
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    controller.replace(make_trajectory(points), NOW)
    grid = np.linspace(0.0, 1.0, 41)
    np.testing.assert_allclose(positions_over(controller, grid)[:, 0], curve(grid), atol=1e-9)


def test_segment_whose_ends_differ_in_fields_uses_the_lower_degree():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    points = [make_point(1.0, (1.0, 0.0), (5.0, 0.0)), make_point(2.0, (2.0, 0.0))]
    controller.replace(make_trajectory(points), NOW)
    controller.sample(NOW)
    np.testing.assert_allclose(
        positions_over(controller, [1.0, 1.25, 1.5])[:, 0], [1.0, 1.25, 1.5]
    )


def test_last_point_is_held_at_rest_after_the_end():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    controller.replace(make_trajectory(GOOD), NOW)
    controller.sample(NOW)
    for time in (0.2, 0.3, 60.0):
        positions, velocities = controller.sample(at(time))
        np.testing.assert_array_equal(positions, (0.2, 0.2))
        np.testing.assert_array_equal(velocities, (0.0, 0.0))


@pytest.mark.parametrize("distro", DISTROS)
def test_replacing_from_the_desired_state_keeps_position_and_velocity(distro):
    controller = TrajectoryController(JOINTS, (0.0, 0.0), distro=distro)
    ramp = [make_point(1.0, (1.0, 1.0), (1.0, 1.0)), make_point(2.0, (1.5, 1.5), (0.0, 0.0))]
    controller.replace(make_trajectory(ramp), NOW)
    controller.sample(NOW)
    old_positions, old_velocities = controller.sample(at(0.5))
    controller.replace(make_trajectory(ramp), at(0.5))
    positions, velocities = controller.sample(at(0.5 + 1e-6))
    np.testing.assert_allclose(positions, old_positions, atol=1e-5)
    np.testing.assert_allclose(velocities, old_velocities, atol=1e-4)


RAMP = [make_point(1.0, (1.0, 1.0), (1.0, 1.0)), make_point(2.0, (1.5, 1.5), (0.0, 0.0))]


@pytest.mark.parametrize("distro", ["lyrical", "rolling"])
def test_newest_distros_skip_no_point_of_a_stamp_in_the_past(distro):
    controller = TrajectoryController(JOINTS, (0.0, 0.0), distro=distro)
    controller.replace(make_trajectory(RAMP), NOW)
    controller.sample(NOW)
    before = controller.sample(at(0.5))[0]
    points = [make_point(0.2, (2.0, 2.0)), make_point(1.0, (3.0, 3.0))]
    controller.replace(make_trajectory(points, stamp_ns=at(0.0)), at(0.5))
    np.testing.assert_allclose(controller.sample(at(0.5))[0], before)
    np.testing.assert_allclose(controller.sample(at(0.7))[0], (2.0, 2.0))


def test_newest_distros_follow_the_old_trajectory_until_the_stamp_one_update_late():
    controller = TrajectoryController(JOINTS, (0.0, 0.0), distro="lyrical")
    ramp = [make_point(t, (t, t), (1.0, 1.0)) for t in (0.2, 0.6, 0.7)]
    ramp.append(make_point(1.0, (0.9, 0.9), (0.0, 0.0)))
    controller.replace(make_trajectory(ramp), NOW)
    positions_over(controller, [0.01 * i for i in range(50)])
    points = [make_point(0.1, (0.0, 0.0), (0.0, 0.0)), make_point(0.2, (0.1, 0.1), (0.0, 0.0))]
    controller.replace(make_trajectory(points, stamp_ns=at(0.75)), at(0.495))
    found = positions_over(controller, [0.5, 0.61, 0.65, 0.71])[1:, 0]
    np.testing.assert_allclose(found, (0.6, 0.64, 0.7))
    np.testing.assert_allclose(controller.sample(at(0.85))[0], (0.0, 0.0), atol=1e-12)


@pytest.mark.parametrize("distro", ["lyrical", "rolling"])
def test_newest_distros_replace_at_once_if_they_are_told_to(distro):
    controllers = [
        TrajectoryController(JOINTS, (0.0, 0.0), distro="jazzy"),
        TrajectoryController(
            JOINTS, (0.0, 0.0), distro=distro, allow_trajectory_replacement=False
        ),
    ]
    found = []
    for controller in controllers:
        controller.replace(make_trajectory(RAMP), NOW)
        positions_over(controller, [0.0, 0.49])
        controller.replace(make_trajectory(GOOD, stamp_ns=at(0.35)), at(0.495))
        found.append(positions_over(controller, [0.5, 0.52, 0.6]))
    np.testing.assert_array_equal(*found)


def test_a_first_point_to_come_is_approached_over_two_updates_more_since_jazzy():
    """The last command bears the time of the update that gave it, and was due one later."""
    found = {}
    for distro in ("humble", "jazzy"):
        controller = TrajectoryController(JOINTS, (0.0, 0.0), distro=distro)
        controller.replace(make_trajectory([make_point(1.0, (1.0, 1.0))]), NOW)
        positions_over(controller, [0.0, 0.1, 0.2])
        controller.replace(make_trajectory([make_point(0.1, (0.5, 0.5))], stamp_ns=at(0.3)), NOW)
        found[distro] = positions_over(controller, [0.3, 0.4])[:, 0]
    np.testing.assert_allclose(found["humble"], (0.2, 0.5))
    np.testing.assert_allclose(found["jazzy"], (0.2 + 0.3 * 2 / 3, 0.5))


def test_newest_distros_replace_a_trajectory_of_one_point_at_once():
    controllers = [
        TrajectoryController(JOINTS, (0.0, 0.0), distro=d) for d in ("jazzy", "lyrical")
    ]
    found = []
    for controller in controllers:
        controller.replace(make_trajectory([make_point(1.0, (1.0, 1.0))]), NOW)
        positions_over(controller, [0.0, 0.4])
        controller.replace(make_trajectory(GOOD, stamp_ns=at(0.35)), at(0.5))
        found.append(positions_over(controller, [0.5, 0.52, 0.6]))
    np.testing.assert_array_equal(*found)


def test_of_two_messages_between_two_samples_only_the_newer_counts():
    controller = TrajectoryController(JOINTS, (0.0, 0.0), distro="lyrical")
    controller.replace(make_trajectory(RAMP), NOW)
    positions_over(controller, [0.0, 0.49])
    controller.replace(make_trajectory([make_point(0.1, (9.0, 9.0))]), at(0.491))
    controller.replace(make_trajectory(GOOD), at(0.492))
    np.testing.assert_allclose(positions_over(controller, [0.5, 0.71])[-1], (0.2, 0.2))


def test_replacing_from_the_measured_state_pulls_the_command_back_by_the_tracking_error():
    controller = TrajectoryController(JOINTS, (0.0, 0.0), interpolate_from_desired_state=False)
    rest = {"measured_positions": (0.0, 0.0), "measured_velocities": (0.0, 0.0)}
    controller.replace(make_trajectory([make_point(1.0, (1.0, 1.0))]), NOW, **rest)
    controller.sample(NOW)
    before = controller.sample(at(0.5))[0]
    lagging = {"measured_positions": before - 0.1, "measured_velocities": (1.0, 1.0)}
    controller.replace(make_trajectory([make_point(1.0, (2.0, 2.0))]), at(0.5), **lagging)
    np.testing.assert_allclose(controller.sample(at(0.5))[0], before - 0.1)


def test_measured_state_is_asked_for_when_it_is_needed():
    controller = TrajectoryController(JOINTS, (0.0, 0.0), interpolate_from_desired_state=False)
    with pytest.raises(ShapeError, match="measured_positions"):
        controller.replace(make_trajectory(GOOD), NOW)


def test_hold_drops_the_trajectory():
    controller = TrajectoryController(JOINTS, (0.0, 0.0))
    controller.replace(make_trajectory(GOOD), NOW)
    controller.hold((0.7, 0.8))
    np.testing.assert_array_equal(controller.sample(at(0.1))[0], (0.7, 0.8))


@pytest.mark.parametrize("distro", ["humble", "jazzy", "kilted"])
def test_stream_of_stamped_chunks_follows_the_curve_that_they_sample(distro):
    """Every 20 ms the curve from now on for 0.1 s and a stop, as the command node sends them."""
    controller = TrajectoryController(JOINTS, (0.0, 0.0), distro=distro)
    errors = []
    for tick in range(100):
        start = tick * 0.02
        knots = start + 0.02 * np.arange(6)
        speeds = np.cos(knots)
        speeds[-1] = 0.0
        points = [
            make_point(0.02 * k, [np.sin(time)] * 2, [speed] * 2)
            for k, (time, speed) in enumerate(zip(knots, speeds, strict=True))
        ]
        controller.replace(make_trajectory(points, stamp_ns=at(start)), at(start + 0.003))
        grid = start + 0.004 + 0.002 * np.arange(10)
        errors.append(positions_over(controller, grid)[:, 0] - np.sin(grid))
    assert np.abs(errors).max() < 1e-5
