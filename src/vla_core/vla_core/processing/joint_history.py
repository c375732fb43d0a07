# SPDX-License-Identifier: MIT
"""Joint states of the last while, of any number of publishers, merged by joint.

Messages are decoded when values are asked for, and only those that give them: at 500 Hz most never
are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError
from vla_core.processing.messages import joint_values_from_message, stamp_ns
from vla_core.processing.stamped_ring import StampedRing
from vla_core.processing.value_checks import quoted

_CAPACITY = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointValues:
    """The joints at one time.

    Attributes:
        values: Field after field, in each the joints in order, float64 [F * J].
        stamps_ns: Time for which each joint's values hold, int64 [J].
    """

    values: NDArray[np.float64]
    stamps_ns: NDArray[np.int64]

    @property
    def oldest_ns(self) -> int:
        """Time for which the values of the most outdated joint hold."""
        return int(self.stamps_ns.min())


class JointHistory:
    """Messages of joint states, from which the values of all joints at a time are read.

    A message need not have all joints: arm and gripper may have publishers of their own, on one
    topic or on several.

    Args:
        joints: Joints in the order in which values are returned.
        fields: Which of ``position``, ``velocity`` and ``effort``.
        span_s: How long messages are kept.
    """

    def __init__(
        self, joints: Sequence[str], fields: Sequence[str] = ("position",), span_s: float = 1.0
    ) -> None:
        self.joints = tuple(joints)
        self._fields = tuple(fields)
        self._ring: StampedRing[Any] = StampedRing(span_s, _CAPACITY)

    def add(self, message: Any) -> None:
        """Keep a ``sensor_msgs/JointState``, of rclpy or of ``rosbags``."""
        self._ring.add(stamp_ns(message), message)

    def clear(self) -> None:
        """Forget all messages."""
        self._ring.clear()

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest message, None before the first."""
        return self._ring.newest_ns

    def missing_joints(self) -> list[str]:
        """Return the joints that no message has."""
        found = self._find(self._ring.newest_first())
        return [joint for joint in self.joints if joint not in found]

    def newest(self) -> JointValues:
        """Return the newest values of every joint.

        Raises:
            MessageError: No message has a joint, or the message that has it cannot be used.
        """
        found = self._find(self._ring.newest_first())
        self._require_all(found)
        return self._combine({joint: ((found[joint], 1.0),) for joint in self.joints})

    def newest_stamps_ns(self) -> dict[str, int]:
        """Return the stamp of every joint's newest message, without those that have none."""
        return {joint: at for joint, (at, _) in self._find(self._ring.newest_first()).items()}

    def at(self, time_ns: int, max_hole_s: float) -> JointValues:
        """Return the values at a time, interpolated linearly between the messages around it.

        Before the first message, after the last one and in a hole between two the nearest counts
        as it is, and its own stamp is the time for which it holds.

        Args:
            time_ns: Time asked for.
            max_hole_s: Time between two messages up to which it is interpolated.

        Raises:
            MessageError: No message has a joint, or a message that is needed cannot be used.
        """
        before = self._find(self._ring.until(time_ns))
        after = self._find(self._ring.since(time_ns))
        self._require_all({**before, **after})
        parts: dict[str, _Parts] = {}
        for joint in self.joints:
            old, new = before.get(joint), after.get(joint)
            if old is None or new is None:
                parts[joint] = (((old or new), 1.0),)  # type: ignore[assignment]
            elif old[0] == new[0]:
                parts[joint] = ((old, 1.0),)
            elif new[0] - old[0] > max_hole_s * 1e9:
                parts[joint] = ((min(old, new, key=lambda at: abs(at[0] - time_ns)), 1.0),)
            else:
                share = (time_ns - old[0]) / (new[0] - old[0])
                parts[joint] = ((old, 1.0 - share), (new, share))
        return self._combine(parts, time_ns)

    def _find(self, messages: Iterable[_Stamped]) -> dict[str, _Stamped]:
        """Return the first message that has each joint."""
        found: dict[str, _Stamped] = {}
        for stamped in messages:
            names = stamped[1].name
            for joint in self.joints:
                if joint not in found and joint in names:
                    found[joint] = stamped
            if len(found) == len(self.joints):
                break
        return found

    def _require_all(self, found: dict[str, _Stamped]) -> None:
        missing = [joint for joint in self.joints if joint not in found]
        if missing:
            names = dict.fromkeys(
                name for _, message in self._ring.newest_first() for name in message.name
            )
            raise MessageError(f"no joint state has {quoted(missing)}; they have {quoted(names)}.")

    def _combine(self, parts: dict[str, _Parts], time_ns: int | None = None) -> JointValues:
        """Add up the weighted messages of every joint; read each message once."""
        by_message: dict[int, tuple[Any, dict[str, float]]] = {}
        for joint, weighted in parts.items():
            for (_, message), weight in weighted:
                by_message.setdefault(id(message), (message, {}))[1][joint] = weight
        values = np.zeros((len(self._fields), len(self.joints)))
        for message, weights in by_message.values():
            columns = [self.joints.index(joint) for joint in weights]
            for row, field in enumerate(self._fields):
                read = joint_values_from_message(message, tuple(weights), field)
                values[row, columns] += read * list(weights.values())
        stamps = [
            weighted[0][0][0] if len(weighted) == 1 or time_ns is None else time_ns
            for weighted in parts.values()
        ]
        return JointValues(values=values.ravel(), stamps_ns=np.array(stamps, dtype=np.int64))


_Stamped = tuple[int, Any]
_Parts = tuple[tuple[_Stamped, float], ...]
