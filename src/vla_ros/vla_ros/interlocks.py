# SPDX-License-Identifier: MIT
"""Everything beside the policy's data that decides whether the arm may move.

Times are those of a monotonic clock, in ns: what was heard when, whatever its sender's clock says.
"""

from __future__ import annotations

from collections.abc import Callable

from vla_core.processing.contract import SafetyContract


class Interlocks:
    """Arming, emergency stop and deadman of one robot.

    Services call it from the executor's thread while the loop asks; each value is changed in one
    assignment.

    Args:
        safety: The contract's part about it.
        is_armed: Whether commands reach the robot from the start.
        emergency: Why an emergency stop is in force already.
        on_stop: Called when an emergency stop begins, in the thread that has set it.

    Attributes:
        is_armed: Whether commands are to reach the robot; else they are previewed.
        emergency: Why the emergency stop is in force; empty when it is not.
    """

    def __init__(
        self,
        safety: SafetyContract,
        *,
        is_armed: bool,
        emergency: str = "",
        on_stop: Callable[[], object] | None = None,
    ) -> None:
        self._safety = safety
        self._on_stop = on_stop
        self.is_armed = is_armed
        self.emergency = emergency
        self._deadman: bool | None = None
        self._deadman_ns = 0

    def stop(self, reason: str) -> None:
        """Set the emergency stop, which stays until `reset`; the first reason is kept."""
        if self.emergency:
            return
        self.emergency = reason
        if self._on_stop is not None:
            self._on_stop()

    def reset(self) -> bool:
        """Clear the emergency stop and return whether it was in force."""
        was_stopped, self.emergency = bool(self.emergency), ""
        return was_stopped

    def hear_deadman(self, is_held: bool, now_ns: int) -> None:
        """Take what the deadman's switch says."""
        self._deadman, self._deadman_ns = is_held, now_ns

    def find_reason(self, now_ns: int) -> str:
        """Return why the arm must not move now; empty if it may."""
        if self.emergency:
            return f"emergency stop: {self.emergency}"
        return self._find_deadman_reason(now_ns) if self._safety.deadman_topic else ""

    def _find_deadman_reason(self, now_ns: int) -> str:
        topic = self._safety.deadman_topic
        if self._deadman is None:
            return f"nothing was heard of the deadman on {topic} yet"
        age_s = (now_ns - self._deadman_ns) * 1e-9
        if age_s > self._safety.deadman_max_age_s:
            return (
                f"the deadman on {topic} was last heard {age_s:.2f} s ago, at most "
                f"{self._safety.deadman_max_age_s:g} s is allowed"
            )
        return "" if self._deadman else f"the deadman on {topic} is released"


class RivalCheck:
    """Notices that two policies send chunks at once.

    Sequence numbers of one process only grow. A restart sets them back once; two processes that
    take turns set them back again and again.

    Args:
        memory_s: For how long a step back is remembered.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_ns = round(memory_s * 1e9)
        self._sequence = 0
        self._steps_back_ns: list[int] = []

    def hear(self, sequence: int, now_ns: int) -> None:
        """Take the number of a chunk that has arrived."""
        if sequence <= self._sequence:
            self._steps_back_ns = [*self._recent(now_ns), now_ns]
        self._sequence = sequence

    def has_rivals(self, now_ns: int) -> bool:
        """Return whether chunks of more than one process came in the last moments."""
        return len(self._steps_back_ns) > 1 and len(self._recent(now_ns)) > 1

    def _recent(self, now_ns: int) -> list[int]:
        return [then for then in self._steps_back_ns if now_ns - then <= self._memory_ns]
