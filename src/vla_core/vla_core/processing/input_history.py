# SPDX-License-Identifier: MIT
"""A further sensor of the last while: wrench, pose or number, at any time within it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError
from vla_core.processing.messages import QUATERNION, input_values_from_message, stamp_ns
from vla_core.processing.stamped_ring import StampedRing

_CAPACITY = 4096


class InputHistory:
    """Messages of one sensor, decoded when a value is asked for.

    Args:
        kind: Type of the input in the contract: ``wrench``, ``pose`` or ``float64``.
        span_s: How long messages are kept.
    """

    def __init__(self, kind: str, span_s: float = 1.0) -> None:
        self._kind = kind
        self._ring: StampedRing[Any] = StampedRing(span_s, _CAPACITY)

    def add(self, message: Any, received_ns: int) -> None:
        """Keep a message.

        Args:
            message: Of rclpy or of ``rosbags``.
            received_ns: Time of its arrival, which stands in where the type has no stamp.
        """
        has_stamp = self._kind != "float64"
        self._ring.add(stamp_ns(message) if has_stamp else received_ns, message)

    def clear(self) -> None:
        """Forget all messages."""
        self._ring.clear()

    @property
    def newest_ns(self) -> int | None:
        """Time of the newest message, None before the first."""
        return self._ring.newest_ns

    def at(self, time_ns: int, max_hole_s: float) -> tuple[NDArray[np.float64], int]:
        """Return the values at a time, interpolated linearly between the messages around it.

        Before the first message, after the last one and in a hole between two the nearest counts
        as it is.

        Args:
            time_ns: Time asked for.
            max_hole_s: Time between two messages up to which it is interpolated.

        Returns:
            Values float64, the quaternion of a pose with length 1, and the time for which they
            hold.

        Raises:
            MessageError: There is no message, or one that is needed cannot be used.
        """
        nearest = self._ring.nearest(time_ns)
        if nearest is None:
            raise MessageError(f"no {self._kind} was received.")
        old, new = next(self._ring.until(time_ns), None), next(self._ring.since(time_ns), None)
        if old is None or new is None or old[0] == new[0] or new[0] - old[0] > max_hole_s * 1e9:
            return input_values_from_message(nearest[1], self._kind), nearest[0]
        before = input_values_from_message(old[1], self._kind)
        after = input_values_from_message(new[1], self._kind)
        if self._kind == "pose" and before[QUATERNION] @ after[QUATERNION] < 0.0:
            # Both signs are the same rotation; the nearer one has the short way between them.
            after[QUATERNION] *= -1.0
        share = (time_ns - old[0]) / (new[0] - old[0])
        values = (1.0 - share) * before + share * after
        if self._kind == "pose":
            values[QUATERNION] /= np.linalg.norm(values[QUATERNION])
        return values, time_ns
