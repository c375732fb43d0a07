# SPDX-License-Identifier: MIT
"""The newest positions of some joints, merged from the joint states of several publishers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError
from vla_core.processing.messages import stamp_ns


class MeasuredJoints:
    """Positions by joint, each with the time of its measurement.

    Args:
        joints: Joints that are wanted; others in the messages are ignored.
    """

    def __init__(self, joints: Sequence[str]) -> None:
        self._joints = tuple(joints)
        self._positions = np.full(len(joints), np.nan)
        self._stamps_ns = [0] * len(joints)
        # A publisher sends the same names every time: where they are needs to be found once.
        self._places: dict[tuple[str, ...], tuple[list[int], list[int]]] = {}

    def take(self, messages: Iterable[Any]) -> None:
        """Take sensor_msgs/JointState messages.

        Raises:
            MessageError: A message has not one finite position for each of its joints that is
                wanted; what came before it is taken.
        """
        for message in messages:
            names = tuple(message.name)
            if names not in self._places:
                self._places[names] = self._find(names)
            own, theirs = self._places[names]
            if not own:
                continue
            positions = np.asarray(message.position, dtype=np.float64)
            if len(positions) != len(names):
                raise MessageError(
                    f"a joint state must have one position per name, got {len(positions)} for "
                    f"{len(names)}."
                )
            values = positions[theirs]
            if not np.isfinite(values).all():
                wrong = [names[i] for i in theirs if not np.isfinite(positions[i])]
                raise MessageError(f"the position of {', '.join(wrong)} is not finite.")
            self._positions[own] = values
            stamp = stamp_ns(message)
            for joint in own:
                self._stamps_ns[joint] = stamp

    def _find(self, names: tuple[str, ...]) -> tuple[list[int], list[int]]:
        own = [place for place, joint in enumerate(self._joints) if joint in names]
        return own, [names.index(self._joints[place]) for place in own]

    @property
    def missing(self) -> tuple[str, ...]:
        """Joints of which nothing was heard yet."""
        return tuple(
            joint
            for joint, position in zip(self._joints, self._positions, strict=True)
            if np.isnan(position)
        )

    @property
    def positions(self) -> NDArray[np.float64]:
        """The positions, rad or m, float64 [J]; NaN for joints that are missing."""
        return self._positions.copy()

    @property
    def stamp_ns(self) -> int:
        """When the oldest of the positions was measured."""
        return min(self._stamps_ns)
