# SPDX-License-Identifier: MIT
"""What the demonstrator did over the horizon of a chunk."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from vla_core.types import ActionChunk

_LONGEST_HOLE = 1.75
"""Steps between two known targets that are interpolated over."""


class Demonstration:
    """The demonstrator's actions of one unbroken stretch of control ticks.

    Args:
        dt_s: Time between two actions.
        num_steps: Steps of a chunk.
        is_absolute: Whether actions are targets, between which one may interpolate, and not
            changes per step.
    """

    def __init__(self, dt_s: float, num_steps: int, *, is_absolute: bool) -> None:
        self._dt_ns = round(dt_s * 1e9)
        self._is_absolute = is_absolute
        # Cameras are seldom in step with the ticks, so that a few more are needed.
        self._times: deque[int] = deque(maxlen=2 * num_steps + 8)
        self._actions: deque[NDArray[np.float64]] = deque(maxlen=2 * num_steps + 8)
        self._newest_ns = 0

    def put(self, observed_ns: int, action: NDArray[np.float64] | None) -> None:
        """Take the action on an observation, [A]; it is to be reached one step later.

        None: it is unknown.
        """
        self._newest_ns = observed_ns + self._dt_ns
        if action is not None:
            self._times.append(self._newest_ns)
            self._actions.append(action)

    def clear(self) -> None:
        """Begin another stretch."""
        self._times.clear()
        self._actions.clear()
        self._newest_ns = 0

    def covers(self, chunk: ActionChunk) -> bool:
        """Tell whether all is known of the demonstrator that a chunk can be compared with."""
        if self._times and self._times[-1] >= chunk.end_ns:
            return True
        # What comes after such a hole says nothing about the chunk.
        return self._newest_ns > chunk.end_ns + _LONGEST_HOLE * self._dt_ns

    def actions_for(self, chunk: ActionChunk) -> NDArray[np.float64]:
        """Return the demonstrator's action for every step of a chunk, NaN if unknown, [K, A]."""
        count, width = chunk.actions.shape
        found = np.full((count, width), np.nan)
        if not self._times:
            return found
        # Relative to the chunk: absolute nanoseconds do not fit a float.
        known = np.array([time - chunk.stamp_ns for time in self._times], np.float64)
        actions = np.array(self._actions)
        wanted = self._dt_ns * np.arange(1.0, count + 1.0)
        after = np.searchsorted(known, wanted).clip(0, len(known) - 1)
        before = (after - 1).clip(0)
        is_near = np.abs(known[before] - wanted) < np.abs(known[after] - wanted)
        nearest = np.where(is_near, before, after)
        is_known = np.abs(known[nearest] - wanted) <= 0.5 * self._dt_ns
        found[is_known] = actions[nearest[is_known]]
        if self._is_absolute:
            width_ns = known[after] - known[before]
            between = (known[before] <= wanted) & (wanted <= known[after])
            between &= (width_ns > 0) & (width_ns <= _LONGEST_HOLE * self._dt_ns)
            share = ((wanted - known[before]) / np.where(width_ns > 0, width_ns, 1.0))[:, None]
            mixed = (1.0 - share) * actions[before] + share * actions[after]
            found[between] = mixed[between]
        return found
