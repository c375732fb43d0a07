# SPDX-License-Identifier: MIT
"""A model of ros2_control's joint_trajectory_controller: what it refuses and how it samples.

It follows the sources of ros2_controllers 2.54 (humble), 4.42 (jazzy), 5.17 (kilted) and 6.9
(lyrical, rolling), their topic interface with position commands and default parameters, so that a
command stream which works here also works on a robot:

* A message is refused as a whole for the reasons in `TrajectoryRejectedError`.
* Up to kilted an accepted one replaces its predecessor at once. A stamp in the past keeps its time
  base, so the command steps to where it should be by now. A first point that is yet to come is
  approached from the last command, to which humble gives the time of this update and the others
  that of the update before the last: the arm then stands still, or is hurried, for an update.
* From lyrical on, unless allow_trajectory_replacement is false, it is spliced into a running
  predecessor of more than one point, which is followed until the stamp, one update late. A stamp
  that is not in the future counts as now: no point is skipped.
* Between points: linear with positions, cubic with velocities, quintic with accelerations too, the
  lowest that both ends allow. Past the end the last point is held.
* No limit of any kind is applied.

Stamps are nanoseconds on the clock of the message stamps. No ROS is needed: messages are read by
attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_core.errors import ConfigError, MessageError, ShapeError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What differs between distributions.

    Attributes:
        ends_moving: Default of allow_nonzero_velocity_at_trajectory_end.
        commands_ahead: Whether an update commands what is due at the next one.
        splices: Default of allow_trajectory_replacement.
    """

    ends_moving: bool = False
    commands_ahead: bool = True
    splices: bool = False


_RULES = {
    "humble": _Rules(ends_moving=True, commands_ahead=False),
    "jazzy": _Rules(),
    "kilted": _Rules(),
    "lyrical": _Rules(splices=True),
    "rolling": _Rules(splices=True),
}
DISTROS = tuple(_RULES)
_VELOCITY_EPSILON = float(np.finfo(np.float32).eps)
_DERIVATIVES = ("velocities", "accelerations")


class TrajectoryRejectedError(MessageError):
    """A trajectory message was refused; the controller goes on with what it did before.

    Attributes:
        cause: ``joints`` (not exactly those of the controller), ``empty`` (no points),
            ``end_velocity`` (the last point moves), ``past`` (ended before now), ``times`` (not
            strictly increasing), ``lengths`` (a field does not fit the joints), ``effort`` (given
            to a position controller), ``values``. The real controller has no check for the last:
            it passes NaN on to the hardware, and commands zeros for accelerations without
            velocities.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class TrajectoryController:
    """Hold a position until a trajectory comes, then follow the newest one.

    Args:
        joints: Joint names in the order of all arrays.
        positions: Where to hold at first, rad or m, [A].
        distro: ROS distribution whose defaults apply, one of ``DISTROS``.
        interpolate_from_desired_state: Enter a trajectory from the last sampled state instead of
            the measured one, which is the real controller's default: then every message of a
            stream pulls the command back by the tracking error. Named ``open_loop_control`` in
            humble.
        allow_trajectory_replacement: Whether a trajectory is spliced into a running one; None: as
            by default.

    Raises:
        ConfigError: The distribution is not supported.
    """

    def __init__(
        self,
        joints: Sequence[str],
        positions: ArrayLike,
        *,
        distro: str = "jazzy",
        interpolate_from_desired_state: bool = True,
        allow_trajectory_replacement: bool | None = None,
    ) -> None:
        if distro not in _RULES:
            raise ConfigError(
                f"distro {distro!r} is not supported; available: {', '.join(DISTROS)}."
            )
        self.joints = tuple(joints)
        self.interpolate_from_desired_state = interpolate_from_desired_state
        self._distro = distro
        self._rules = _RULES[distro]
        self._splices = self._rules.splices
        if allow_trajectory_replacement is not None:
            self._splices = allow_trajectory_replacement
        self.hold(positions)

    def hold(self, positions: ArrayLike) -> None:
        """Drop the trajectory and rest at positions, rad or m, [A]."""
        self._positions = self._state(positions, "positions")
        self._velocities = np.zeros(len(self.joints))
        self._accelerations = np.zeros(len(self.joints))
        self._sampled_ns: int | None = None
        self._trajectory: _Trajectory | None = None
        self._pending: _Trajectory | None = None

    def replace(
        self,
        message: Any,
        now_ns: int,
        *,
        measured_positions: ArrayLike | None = None,
        measured_velocities: ArrayLike | None = None,
    ) -> None:
        """Follow a trajectory_msgs/JointTrajectory from the next sample on.

        Args:
            message: The message, or anything with its attributes.
            now_ns: Time of arrival.
            measured_positions: Measured state at arrival, [A]; needed unless the controller
                interpolates from the desired state.
            measured_velocities: Its velocities, [A].

        Raises:
            TrajectoryRejectedError: The real controller would refuse the message.
            ShapeError: A measured state is needed and was not given, or is not [A].
        """
        start = None
        if not self.interpolate_from_desired_state:
            start = (
                self._state(measured_positions, "measured_positions"),
                self._state(measured_velocities, "measured_velocities"),
            )
        self._validate(message, now_ns)
        self._pending = _Trajectory(message, self.joints, start)

    def sample(self, now_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the desired positions [A] and velocities [A] at a time.

        Calls must go forward in time. A controller whose update takes effect one period later is
        sampled at the time of that effect.
        """
        if self._pending is not None:
            self._enter(self._pending, now_ns)
            self._trajectory, self._pending = self._pending, None
        if self._trajectory is not None:
            self._positions, self._velocities, self._accelerations = self._trajectory.at(now_ns)
        self._sampled_ns = now_ns
        return self._positions.copy(), self._velocities.copy()

    def _enter(self, trajectory: _Trajectory, now_ns: int) -> None:
        sampled_ns = now_ns if self._sampled_ns is None else self._sampled_ns
        period_ns = now_ns - sampled_ns
        update_ns = sampled_ns if self._rules.commands_ahead else now_ns
        before = self._trajectory
        if self._splices and before is not None and before.num_points > 1:
            trajectory.splice(before, update_ns, period_ns)
        if trajectory.measured is not None:
            state = (*trajectory.measured, np.zeros(len(self.joints)))
            trajectory.enter(update_ns, update_ns, state)
            return
        state = (self._positions, self._velocities, self._accelerations)
        before_ns = update_ns - period_ns if self._rules.commands_ahead else update_ns
        trajectory.enter(update_ns, before_ns, state)

    def _state(self, values: ArrayLike | None, name: str) -> NDArray[np.float64]:
        state = np.array(values, dtype=np.float64)
        if state.shape != (len(self.joints),) or not np.isfinite(state).all():
            raise ShapeError(f"{name} must be [{len(self.joints)}] and finite, got {values!r}.")
        return state

    def _validate(self, message: Any, now_ns: int) -> None:
        names, points = list(message.joint_names), message.points
        if sorted(names) != sorted(self.joints):
            _reject(
                "joints",
                f"joint_names must be all of {list(self.joints)}, each once, in any order; "
                f"got {names}.",
            )
        if not points:
            _reject(
                "empty", "points must not be empty: an empty trajectory does not stop the arm."
            )
        if not self._rules.ends_moving:
            for name, velocity in zip(names, points[-1].velocities, strict=False):
                if abs(velocity) > _VELOCITY_EPSILON:
                    _reject(
                        "end_velocity",
                        f"velocities of the last point must be 0 ({self._distro}), "
                        f"got {velocity:.6g} for {name!r}.",
                    )
        times_ns = [_nanoseconds(point.time_from_start) for point in points]
        stamp_ns = _nanoseconds(message.header.stamp)
        if stamp_ns != 0 and stamp_ns + times_ns[-1] < now_ns:
            _reject(
                "past",
                "the trajectory must not end in the past, it ended "
                f"{(now_ns - stamp_ns - times_ns[-1]) * 1e-9:.6f} s ago; stamp 0 starts it now.",
            )
        for index in range(1, len(times_ns)):
            if times_ns[index] <= times_ns[index - 1]:
                _reject(
                    "times",
                    "time_from_start must be strictly increasing, got "
                    f"{times_ns[index - 1] * 1e-9:.9f} s at point {index - 1} and "
                    f"{times_ns[index] * 1e-9:.9f} s at point {index}.",
                )
        for index, point in enumerate(points):
            _validate_point(point, index, len(names))


class _Trajectory:
    """The points of one message, and the polynomials between them once it is entered."""

    def __init__(
        self,
        message: Any,
        joints: Sequence[str],
        measured: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    ) -> None:
        names = list(message.joint_names)
        order = [names.index(joint) for joint in joints]
        points = message.points
        self.measured = measured
        # Whether the state before the first point counts as one.
        self.num_before = 0
        self.num_points = len(points)
        self._stamp_ns = _nanoseconds(message.header.stamp)
        offsets = [_nanoseconds(point.time_from_start) for point in points]
        self._times_ns = np.array(offsets, dtype=np.int64)
        self._values = [np.array([point.positions for point in points], dtype=np.float64)]
        self._given = []
        for field in _DERIVATIVES:
            rows = [getattr(point, field) for point in points]
            self._given.append(np.array([len(row) > 0 for row in rows]))
            blank = np.zeros(len(joints))
            self._values.append(np.array([row if len(row) else blank for row in rows], float))
        self._values = [values[:, order] for values in self._values]

    def splice(self, before: _Trajectory, update_ns: int, period_ns: int) -> None:
        """Put the way of another trajectory until the stamp, a period late, before this one's."""
        start_ns = max(self._stamp_ns, update_ns)
        self._times_ns += start_ns - update_ns
        # The state at the start comes between, unless the first point is due then.
        if start_ns - update_ns < self._times_ns[0]:
            self._prepend(start_ns - update_ns, before.at(start_ns - period_ns))
        first = before.num_before
        times_ns = before._times_ns[first:]
        is_between = (times_ns > update_ns - period_ns) & (times_ns < start_ns - period_ns)
        for row in np.flatnonzero(is_between)[::-1] + first:
            self._prepend(
                int(before._times_ns[row]) + period_ns - update_ns,
                tuple(values[row] for values in before._values),
                tuple(bool(given[row]) for given in before._given),
            )
        self.num_points = len(self._times_ns)
        self._stamp_ns = 0

    def enter(
        self, update_ns: int, before_ns: int, state: tuple[NDArray[np.float64], ...]
    ) -> None:
        """Fix the time base and fit the polynomials.

        Args:
            update_ns: When a trajectory without a stamp starts.
            before_ns: Time of the state.
            state: Positions, velocities and accelerations before the first point.
        """
        self._times_ns += self._stamp_ns if self._stamp_ns != 0 else update_ns
        if self._times_ns[0] > before_ns:
            self._prepend(before_ns, state)
            self.num_before = 1
        self._coefficients = _fit(self._times_ns, self._values, self._given)

    def _prepend(
        self,
        time_ns: int,
        state: tuple[NDArray[np.float64], ...],
        given: tuple[bool, ...] = (True, True),
    ) -> None:
        self._times_ns = np.concatenate([[time_ns], self._times_ns])
        self._values = [
            np.concatenate([start[None], values])
            for start, values in zip(state, self._values, strict=True)
        ]
        self._given = [
            np.concatenate([[each], rest]) for each, rest in zip(given, self._given, strict=True)
        ]

    def at(self, now_ns: int) -> tuple[NDArray[np.float64], ...]:
        """Return positions, velocities and accelerations [A] at a time."""
        segment = int(np.searchsorted(self._times_ns, now_ns, side="right")) - 1
        if segment >= len(self._times_ns) - 1:
            return tuple(values[-1] for values in self._values)
        x = max(0.0, (now_ns - int(self._times_ns[max(segment, 0)])) * 1e-9)
        x2, x3, x4 = x * x, x * x * x, x * x * x * x
        powers = np.array(
            (
                (1.0, x, x2, x3, x4, x4 * x),
                (0.0, 1.0, 2.0 * x, 3.0 * x2, 4.0 * x3, 5.0 * x4),
                (0.0, 0.0, 2.0, 6.0 * x, 12.0 * x2, 20.0 * x3),
            )
        )
        return tuple(powers @ self._coefficients[max(segment, 0)])


def _fit(
    times_ns: NDArray[np.int64],
    values: list[NDArray[np.float64]],
    given: list[NDArray[np.bool_]],
) -> NDArray[np.float64]:
    """Return the coefficients of each segment, lowest power first, [segments, 6, A]."""
    position, velocity, acceleration = values
    p0, p1, v0, v1, a0, a1 = (
        part for field in (position, velocity, acceleration) for part in (field[:-1], field[1:])
    )
    t = (np.diff(times_ns) * 1e-9)[:, None]
    zero = np.zeros_like(p0)
    delta = p1 - p0
    linear = [p0, delta / t, zero, zero, zero, zero]
    cubic = [
        p0,
        v0,
        (3.0 * delta - (2.0 * v0 + v1) * t) / t**2,
        ((v0 + v1) * t - 2.0 * delta) / t**3,
        zero,
        zero,
    ]
    quintic = [
        p0,
        v0,
        0.5 * a0,
        (20.0 * delta - (8.0 * v1 + 12.0 * v0) * t - (3.0 * a0 - a1) * t**2) / (2.0 * t**3),
        (-30.0 * delta + (14.0 * v1 + 16.0 * v0) * t + (3.0 * a0 - 2.0 * a1) * t**2)
        / (2.0 * t**4),
        (12.0 * delta - 6.0 * (v1 + v0) * t + (a1 - a0) * t**2) / (2.0 * t**5),
    ]
    has_velocity, has_acceleration = (both[:-1] & both[1:] for both in given)
    is_cubic = has_velocity[:, None, None]
    is_quintic = (has_velocity & has_acceleration)[:, None, None]
    stacked = (np.stack(terms, axis=1) for terms in (linear, cubic, quintic))
    line, cube, quint = stacked
    return np.where(is_quintic, quint, np.where(is_cubic, cube, line))


def _validate_point(point: Any, index: int, num_joints: int) -> None:
    for field in ("positions", *_DERIVATIVES):
        values = getattr(point, field)
        if len(values) == 0 and field != "positions":
            continue
        if len(values) != num_joints:
            _reject(
                "lengths",
                f"{field} of point {index} must have {num_joints} values, one per joint, "
                f"got {len(values)}.",
            )
        if not np.isfinite(values).all():
            _reject("values", f"{field} of point {index} must be finite, got {list(values)}.")
    if len(point.accelerations) > 0 and len(point.velocities) == 0:
        _reject("values", f"accelerations of point {index} need velocities beside them.")
    if len(point.effort) > 0:
        _reject("effort", f"effort of point {index} must be empty for a position controller.")


def _reject(cause: str, message: str) -> NoReturn:
    raise TrajectoryRejectedError(cause, message)


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)
