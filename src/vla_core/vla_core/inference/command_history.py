# SPDX-License-Identifier: MIT
"""Which command was in force when something was measured or observed."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray


class CommandHistory:
    """The commanded positions of the last moments.

    Args:
        duration_s: How far back it reaches.
        dt_s: Time between two commands.
    """

    def __init__(self, duration_s: float, dt_s: float) -> None:
        self._commands: deque[tuple[int, NDArray[np.float64]]] = deque(
            maxlen=math.ceil(duration_s / dt_s) + 2
        )

    def append(self, now_ns: int, position: NDArray[np.float64]) -> None:
        """Take the command of a tick, [A]."""
        self._commands.append((now_ns, position))

    def clear(self) -> None:
        """Forget everything: a motion begins."""
        self._commands.clear()

    def at(self, stamp_ns: int) -> NDArray[np.float64] | None:
        """Return the command of a time, [A]; None before the first of this motion."""
        later: tuple[int, NDArray[np.float64]] | None = None
        for tick_ns, position in reversed(self._commands):
            if tick_ns <= stamp_ns:
                if later is None or later[0] == tick_ns:
                    return position
                share = (stamp_ns - tick_ns) / (later[0] - tick_ns)
                return position + share * (later[1] - position)
            later = tick_ns, position
        return None

    def extend(self, start_ns: int, period_ns: int, positions: NDArray[np.float64]) -> None:
        """Take the commands of ticks that were skipped after a time, [N, A]."""
        for tick, position in enumerate(positions, start=1):
            self._commands.append((start_ns + tick * period_ns, position))

    def largest_error(self, measured: NDArray[np.float64], stamp_ns: int) -> tuple[int, float]:
        """Return which of the measured positions, [A], is farthest from its command, and how far.

        Before the first command of this motion none is.
        """
        commanded = self.at(stamp_ns)
        if commanded is None:
            return 0, 0.0
        errors = np.abs(measured - commanded)
        worst = int(errors.argmax())
        return worst, float(errors[worst])
