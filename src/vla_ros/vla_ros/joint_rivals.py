# SPDX-License-Identifier: MIT
"""Notice joints that two drivers publish, whose positions would flicker between both."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

_MEMORY_S = 3.0


class JointRivals:
    """Hears of every message of joint states who has sent it.

    A joint has one publisher, though a topic may have several, such as those of arm and gripper.
    Each numbers its messages upwards: where two take turns, the numbers of a joint go back again
    and again. A driver that is started anew sets them back once. Middleware that gives no numbers
    (Cyclone DDS, Humble's rclpy) leaves only joints on two topics to be noticed.

    Args:
        joints: Joints that matter.
    """

    def __init__(self, joints: Iterable[str]) -> None:
        self._joints = frozenset(joints)
        self._newest: dict[str, tuple[str, int | None]] = {}
        # When the publisher has changed for the last time but one, and for the last time.
        self._changes_s: dict[str, tuple[float, float]] = {}

    def hear(self, topic: str, joints: Iterable[str], info: Mapping[str, Any]) -> None:
        """Take a message's topic and joints, and what the middleware says about it."""
        number = info.get("publication_sequence_number")
        for joint in joints:
            if joint not in self._joints:
                continue
            last_topic, last_number = self._newest.get(joint, (topic, None))
            self._newest[joint] = topic, number
            is_back = number is not None and last_number is not None and number <= last_number
            if is_back or topic != last_topic:
                before = self._changes_s.get(joint, (0.0, 0.0))[1]
                self._changes_s[joint] = before, time.monotonic()

    def find(self) -> tuple[str, ...]:
        """Return the joints that came from more than one publisher lately; from any thread."""
        oldest_s = time.monotonic() - _MEMORY_S
        changes = list(self._changes_s.items())
        return tuple(joint for joint, (before_s, _) in changes if before_s > oldest_s)
