# SPDX-License-Identifier: MIT
"""Turn planned positions into velocities for robots that take nothing else.

What a velocity does not achieve would add up: the arm would end somewhere else than planned. So a
small part of the velocity leads the measured positions back to the planned ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vla_core.processing.contract import JointLimits
from vla_ros.outputs.base import Command

_GAIN = 1.0  # 1/s: slow beside any delay between command and measurement
_SHARE = 0.1  # of the largest velocity, that a correction may take
_MEMORY_S = 1.0


class VelocityCommand:
    """Makes velocities of all joints that stay within velocity and acceleration limits.

    Args:
        limits: Limits of all joints of a command.
        period_s: Time between two commands.
    """

    def __init__(self, limits: Mapping[str, JointLimits], period_s: float) -> None:
        self._period_s = period_s
        self._largest = np.array([limit.velocity for limit in limits.values()])
        self._step = np.array([limit.acceleration for limit in limits.values()]) * period_s
        # One tick must be enough to take a correction back: a stop ends at rest.
        self._correctable = np.minimum(_SHARE * self._largest, self._step)
        self._last = np.zeros(len(limits))
        self._sent: deque[tuple[int, NDArray[np.float64]]] = deque(
            maxlen=int(_MEMORY_S / period_s) + 1
        )

    def next(self, command: Command) -> NDArray[np.float64]:
        """Return the velocities until the next tick, rad/s or m/s, float64 [A]."""
        # The mean velocity of the period leads exactly to the next planned position.
        planned = (command.positions[0] - command.position) / self._period_s
        self._sent.append((command.now_ns, command.position))
        wanted = planned if command.is_stopping else planned + self._correction(command)
        velocity = np.clip(wanted, self._last - self._step, self._last + self._step)
        self._last = np.clip(velocity, -self._largest, self._largest)
        return self._last

    def reset(self) -> None:
        """Begin at rest."""
        self._last = np.zeros_like(self._last)
        self._sent.clear()

    def _correction(self, command: Command) -> NDArray[np.float64]:
        for sent_ns, position in reversed(self._sent):
            if sent_ns <= command.measured_ns:
                wanted = _GAIN * (position - command.measured)
                return np.clip(wanted, -self._correctable, self._correctable)
        return np.zeros_like(self._last)
