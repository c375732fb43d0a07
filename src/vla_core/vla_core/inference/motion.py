# SPDX-License-Identifier: MIT
"""The curve of the commands: each tick goes on where the last one promised, and can stop.

A plan is a few ticks along the targets and then a stop, so that an arm that hears nothing more
comes to rest by itself. Its first ticks may be committed: they stay as the plan before said, so
that a plan which is late or lost leaves the arm where the next one goes on.

Jerk is limited by sending the mean of the last few commands of the limiter instead of the newest:
a mean of positions, velocities and accelerations within limits is within them too, and n commands
bound the jerk by 2 * acceleration / (n * dt_s), since a mean changes by an n-th of what enters and
leaves it. It is half of n late, which asking for the targets that much earlier makes up for.
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

COMMIT_S = 0.04
"""How much of a plan the next ones keep where a trajectory controller follows them, s."""

_LONGEST_MEAN_S = 1.0
_LONGEST_PAUSE_S = 0.25

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


NO_CUT = Cut((), (), 0.0, True)


class Motion:
    """Where the commands are and what was promised.

    Args:
        limits: Limits of every joint, in the order of all arrays.
        dt_s: Time between two commands.
        workspace: Box for the tool; None: any.
        commit_s: How much of a plan the next ones keep, at least two ticks; 0: nothing. Of two
            plans one may then be lost and the other late by a tick.
        follows_plans: Whether the arm goes on along a plan while there are no ticks; else it is
            taken to have stayed at the command of the next tick.

    Raises:
        ConfigError: A jerk limit is so low that stopping would take too long.

    Attributes:
        num_committed: Ticks of a plan that the next ones keep.
        lead_s: How much earlier than the tick after now the targets are due, because of the ticks
            that are committed and of the limited jerk.
        position: Last commanded positions, rad or m, [A]; None before the first motion.
        velocity: Their velocities, [A].
        plan: Positions and velocities for 1, 2, ... ticks from now, [2, M, A], at rest at the end;
            None: nothing is promised.
    """

    def __init__(
        self,
        limits: Mapping[str, JointLimits],
        dt_s: float,
        workspace: Workspace | None = None,
        *,
        commit_s: float = 0.0,
        follows_plans: bool = True,
    ) -> None:
        self._follows_plans = follows_plans
        self._longest_pause = round(_LONGEST_PAUSE_S / dt_s)
        self.limiter = CommandLimiter(limits, dt_s)
        self._workspace = workspace
        self._num_mean = _num_mean(limits, dt_s)
        num_committed = math.ceil(commit_s / dt_s - 1e-9)
        self.num_committed = max(2, num_committed) if commit_s > 0.0 else 0
        # The commands of the limiter, [2, N, A]: so many are in the mean of now or committed, and
        # then come those that are planned.
        self._num_kept = self._num_mean + self.num_committed
        self._track: _Rows = np.zeros((2, 0, len(limits)))
        self.lead_s = (self.num_committed + 0.5 * (self._num_mean - 1)) * dt_s
        self.position: _Rows | None = None
        self.velocity: _Rows = np.zeros(len(limits))
        self.plan: _Rows | None = None

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing moves, nor will by what has entered the mean or is committed."""
        return not self._track[1, : self._num_kept].any()

    def start(self, position: _Rows) -> None:
        """Begin at rest at measured positions, [A]."""
        self.position, self.velocity, self.plan = position, np.zeros_like(position), None
        self._track = np.zeros((2, self._num_kept, len(position)))
        self._track[0] = position

    def advance(self, num_ticks: int) -> _Rows:
        """Move to where the arm is so many ticks later, as far as the plan tells.

        After a long pause it does not: there is no plan any more, and the motion has ended.

        Returns:
            The positions that were in force in the ticks between, [N, A].
        """
        if self.plan is None:
            return np.zeros((0, len(self.velocity)))
        num_promised = self.plan.shape[1] if self._follows_plans else 1
        if num_ticks > max(num_promised, self._longest_pause):
            self.rest()
            return np.zeros((0, len(self.velocity)))
        num = min(num_ticks, num_promised)
        passed: _Rows = self.plan[0, : num - 1]
        self.position, self.velocity = self.plan[:, num - 1]
        self.plan = _after(self.plan, num, 1)
        self._track = _after(self._track, num, self._num_kept)
        return passed

    def follow(self, targets: _Rows, velocities: _Rows, *, speed: float = 1.0) -> Cut:
        """Plan a few ticks along targets and then a stop.

        Args:
            targets: Where to be 1, 2, ... ticks and ``lead_s`` from now, [M, A].
            velocities: How fast, [M, A].
            speed: Share of the velocity limits to use.

        Raises:
            SafetyError: A target is not finite.
        """
        state = self._newest(self._num_kept)
        commands = []
        for target, velocity in zip(targets, velocities, strict=True):
            commands.append(self.limiter.limit(target, *state, velocity, speed=speed))
            state = commands[-1].position, commands[-1].velocity
        first = commands[0]
        followed = np.array([(c.position, c.velocity) for c in commands]).swapaxes(0, 1)
        tail = self.limiter.stop_trajectory(*state)
        excess_m = self._adopt([followed, tail], self._num_kept)
        return Cut(first.limited_joints, first.cuts, excess_m, first.is_met and not excess_m)

    def stop(self, *, at_once: bool = False) -> float:
        """Plan to come to rest as fast as the limits allow.

        Args:
            at_once: Whether the stop begins with the next tick, not after what is committed.

        Returns:
            How far the tool would have left the workspace, m; 0 if it does not. It then stops a
            few ticks later, where the last plan said.
        """
        num_kept = self._num_mean if at_once else self._num_kept
        return self._adopt([self.limiter.stop_trajectory(*self._newest(num_kept))], num_kept)

    def rest(self) -> None:
        """Promise nothing any more."""
        self.plan = None

    def _newest(self, num_kept: int) -> tuple[_Rows, _Rows]:
        """Return the last of the limiter's commands that stay, from which it goes on."""
        return self._track[0, num_kept - 1], self._track[1, num_kept - 1]

    def _adopt(self, new: list[_Rows], num_kept: int) -> float:
        """Make new commands of the limiter the plan, unless they leave the workspace."""
        assert self.position is not None
        num = self._num_mean
        # The last one stays until the mean rests.
        rest = [new[-1][:, -1:]] * (num - 1)
        track = np.concatenate([self._track[:, :num_kept], *new, *rest], axis=1)
        track = _after(track, 0, self._num_kept)
        plan = track[:, 1:]
        if num > 1:
            plan = _means(plan, num)
        if self._workspace is not None:
            excess_m = self._workspace.excess_m(plan[0], self.position)
            if excess_m > 0.0:
                self._keep_promise()
                return excess_m
        self.plan, self._track = plan, track
        return 0.0

    def _keep_promise(self) -> None:
        """Go on with the last plan, which was judged; a motion that has none begins with rest."""
        if self.plan is None:
            assert self.position is not None
            self.plan = np.zeros((2, 1, len(self.position)))
            self.plan[0] = self.position


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
    left = rows[:, num:]
    missing = least - left.shape[1]
    if missing <= 0:
        return left
    return np.concatenate((left, np.repeat(rows[:, -1:], missing, axis=1)), axis=1)


def _means(rows: _Rows, num: int) -> _Rows:
    """Return the mean of every num rows that follow each other."""
    windows = np.lib.stride_tricks.sliding_window_view(rows, num, axis=1)
    means: _Rows = windows.sum(axis=-1) / num
    return means
