# SPDX-License-Identifier: MIT
"""The curve of the commands: each tick goes on where the last one promised, and can stop.

A plan is a few ticks along the targets and then a stop, so that an arm that hears nothing more
comes to rest by itself. Jerk is limited by sending the mean of the last few commands of the
limiter instead of the newest: a mean of positions, velocities and accelerations within limits is
within them too, and n commands bound the jerk by 2 * acceleration / (n * dt_s), since a mean
changes by an n-th of what enters and leaves it. It is half of n late, which asking for the targets
that much earlier makes up for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError
from vla_core.inference.safety import CommandLimiter
from vla_core.inference.workspace import Workspace
from vla_core.processing.contract import JointLimits

_LONGEST_MEAN_S = 1.0

_Rows = NDArray[np.float64]


class Cut(NamedTuple):
    """What a tick lost to the limits.

    Attributes:
        limited_joints: Joints that a limit kept from their target.
        joint_cuts: How far each stays from it, rad or m.
        workspace_m: How far the tool would have left the workspace, m; 0: it would not.
        is_met: Whether every joint is about where its target is.
    """

    limited_joints: tuple[str, ...]
    joint_cuts: tuple[float, ...]
    workspace_m: float
    is_met: bool

    def enlarged(self, more: Mapping[str, float]) -> Cut:
        """Return this with more that joints stay from their targets, rad or m by joint."""
        cuts = dict(zip(self.limited_joints, self.joint_cuts, strict=True))
        for joint, amount in more.items():
            cuts[joint] = cuts.get(joint, 0.0) + amount
        return self._replace(limited_joints=tuple(cuts), joint_cuts=tuple(cuts.values()))


class Motion:
    """Where the commands are and what was promised.

    Args:
        limits: Limits of every joint, in the order of all arrays.
        dt_s: Time between two commands.
        workspace: Box for the tool; None: any.

    Raises:
        ConfigError: A jerk limit is so low that stopping would take too long.

    Attributes:
        lead_s: How much earlier the targets of a tick are due because jerk is limited.
        position: Last commanded positions, rad or m, [A]; None before the first motion.
        velocity: Their velocities, [A].
        plan: Positions and velocities for 1, 2, ... ticks from now, [M, A] each, at rest at the
            end; None: nothing is promised.
    """

    def __init__(
        self, limits: Mapping[str, JointLimits], dt_s: float, workspace: Workspace | None = None
    ) -> None:
        self.limiter = CommandLimiter(limits, dt_s)
        self._workspace = workspace
        self._num_mean = _num_mean(limits, dt_s)
        self.lead_s = 0.5 * (self._num_mean - 1) * dt_s
        self.position: _Rows | None = None
        self.velocity: _Rows = np.zeros(len(limits))
        self.plan: tuple[_Rows, _Rows] | None = None
        # With limited jerk, the commands of the limiter: those in the mean of now, the newest of
        # them in row num_mean - 1, and those that are planned.
        self._track: tuple[_Rows, _Rows] = (np.zeros((0, len(limits))),) * 2

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing moves, nor will by what has entered the mean."""
        return not self.velocity.any() and not self._newest[1].any()

    def start(self, position: _Rows) -> None:
        """Begin at rest at measured positions, [A]."""
        self.position, self.velocity, self.plan = position, np.zeros_like(position), None
        if self._num_mean > 1:
            rows = np.tile(position, (self._num_mean, 1))
            self._track = rows, np.zeros_like(rows)

    def advance(self, num_ticks: int) -> None:
        """Move to the state that the plan promised for so many ticks after its own."""
        if self.plan is None:
            return
        positions, velocities = self.plan
        num = min(num_ticks, len(positions))
        self.position, self.velocity = positions[num - 1], velocities[num - 1]
        self.plan = _after(positions, num, 1), _after(velocities, num, 1)
        if self._num_mean > 1:
            least = self._num_mean + 1
            self._track = _after(self._track[0], num, least), _after(self._track[1], num, least)

    def follow(self, targets: _Rows, velocities: _Rows, *, speed: float = 1.0) -> Cut:
        """Plan a few ticks along targets and then a stop.

        Args:
            targets: Where to be after 1, 2, ... ticks and ``lead_s``, [M, A].
            velocities: How fast, [M, A].
            speed: Share of the velocity limits to use.

        Raises:
            SafetyError: A target is not finite.
        """
        first = self.limiter.limit(targets[0], *self._newest, velocities[0], speed=speed)
        positions, speeds = [first.position], [first.velocity]
        for target, target_velocity in zip(targets[1:], velocities[1:], strict=True):
            position, velocity = self.limiter.follow(
                target, positions[-1], speeds[-1], target_velocity, speed=speed
            )
            positions.append(position)
            speeds.append(velocity)
        tail = self.limiter.stop_trajectory(positions[-1], speeds[-1])
        excess_m = self._adopt(np.vstack((positions, tail[0])), np.vstack((speeds, tail[1])))
        return Cut(first.limited_joints, first.cuts, excess_m, first.is_met and not excess_m)

    def stop(self) -> float:
        """Plan to come to rest as fast as the limits allow.

        Returns:
            How far the tool would have left the workspace, m; 0 if it does not. It then stops a
            few ticks later, where the last plan said.
        """
        return self._adopt(*self.limiter.stop_trajectory(*self._newest))

    def rest(self) -> None:
        """Promise nothing any more."""
        self.plan = None

    @property
    def _newest(self) -> tuple[_Rows, _Rows]:
        """The limiter's last command, from which it goes on."""
        if self._num_mean == 1:
            assert self.position is not None
            return self.position, self.velocity
        index = self._num_mean - 1
        return self._track[0][index], self._track[1][index]

    def _adopt(self, positions: _Rows, velocities: _Rows) -> float:
        """Make new commands of the limiter the plan, unless they leave the workspace."""
        assert self.position is not None
        plan = track = positions, velocities
        if self._num_mean > 1:
            track = self._joined(0, positions), self._joined(1, velocities)
            plan = _means(track[0][1:], self._num_mean), _means(track[1][1:], self._num_mean)
        if self._workspace is not None:
            excess_m = self._workspace.excess_m(plan[0], self.position)
            if excess_m > 0.0:
                self._keep_promise()
                return excess_m
        self.plan, self._track = plan, track
        return 0.0

    def _joined(self, part: int, new: _Rows) -> _Rows:
        """Return the commands in the mean of now, new ones, and the last until the mean rests."""
        num = self._num_mean
        return np.concatenate((self._track[part][:num], new, np.repeat(new[-1:], num - 1, axis=0)))

    def _keep_promise(self) -> None:
        """Go on with the last plan, which was judged; a motion that has none begins with rest."""
        if self.plan is not None:
            return
        assert self.position is not None
        positions = np.tile(self.position, (self._num_mean + 1, 1))
        self._track = positions, np.zeros_like(positions)
        self.plan = self._track[0][:1], self._track[1][:1]


def _num_mean(limits: Mapping[str, JointLimits], dt_s: float) -> int:
    """Return how many commands the mean has, one for all joints: they stay in step."""
    longest = 1
    for name, limit in limits.items():
        if limit.jerk is None:
            continue
        num = math.ceil(2.0 * limit.acceleration / (limit.jerk * dt_s) - 1e-9)
        if num * dt_s > _LONGEST_MEAN_S:
            raise ConfigError(
                f"limits.{name}: jerk {limit.jerk:g} takes {num * dt_s:.2f} s to turn the "
                f"acceleration {limit.acceleration:g} round, at most {_LONGEST_MEAN_S:g} s is "
                "supported; raise jerk or lower acceleration."
            )
        longest = max(longest, num)
    return longest


def _after(rows: _Rows, num: int, least: int) -> _Rows:
    """Return the rows after the first num, the last repeated so that as many as least stay."""
    left = rows[num:]
    missing = least - len(left)
    return left if missing <= 0 else np.concatenate((left, np.repeat(rows[-1:], missing, axis=0)))


def _means(rows: _Rows, num: int) -> _Rows:
    """Return the mean of every num rows that follow each other."""
    windows = np.lib.stride_tricks.sliding_window_view(rows, num, axis=0)
    return windows.sum(axis=-1) / num
