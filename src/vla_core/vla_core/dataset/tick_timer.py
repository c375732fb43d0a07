# SPDX-License-Identifier: MIT
"""When the policy node would look at its buffer: it waits for a new frame, then for the others."""

from __future__ import annotations

import enum
from collections.abc import Callable


class _Stage(enum.Enum):
    BEGINNING = 0
    PAUSE = 1
    NEW_FRAME = 2
    OTHER_CAMERAS = 3


class TickTimer:
    """Turns the arrivals of frames into the times of observations, one per step.

    Steps begin half a step before the frames of a camera that is as fast as they are, so that
    late frames do not fall into the next one.

    Args:
        step_ns: Time between two ticks.
        frame_wait_ns: Longest wait for a new frame of the reference camera.
        camera_wait_ns: Longest wait for the others after that.
        from_start: Whether ticks begin with the first arrival of all, at which they can only find
            that the reference camera has not delivered yet, and not with its first frame.
    """

    def __init__(
        self, step_ns: int, frame_wait_ns: int, camera_wait_ns: int, *, from_start: bool = False
    ) -> None:
        self._step_ns = step_ns
        self._frame_wait_ns = min(frame_wait_ns, step_ns)
        self._camera_wait_ns = camera_wait_ns
        self._from_start = from_start
        self.restart()

    def restart(self) -> None:
        """Wait for the first frame of the reference camera."""
        self._stage = _Stage.BEGINNING
        self._due_ns = 0
        self._deadline_ns = 0

    def pass_time(self, now_ns: int, is_aligned: Callable[[], bool]) -> int | None:
        """Return the time of the next observation that no arrival before now has made.

        To be called until it returns None.

        Args:
            now_ns: Time of the next arrival.
            is_aligned: Says whether no camera is behind the reference camera.
        """
        if self._stage is _Stage.BEGINNING:
            return self._pass_blind_time(now_ns) if self._from_start else None
        while now_ns > self._deadline_ns:
            if self._stage is _Stage.PAUSE:
                self._stage = _Stage.NEW_FRAME
                self._deadline_ns = self._due_ns + self._frame_wait_ns
            elif self._stage is _Stage.NEW_FRAME:
                at_ns = self._deadline_ns
                self._wait_for_others(at_ns)
                if is_aligned():
                    return self._finish(at_ns)
            else:
                return self._finish(self._deadline_ns)
        return None

    def _pass_blind_time(self, now_ns: int) -> int | None:
        """Return the time of the next tick before the first frame of the reference camera."""
        if not self._due_ns:
            self._due_ns = now_ns
        if now_ns < self._due_ns + self._step_ns:
            return None
        self._due_ns += self._step_ns
        return self._due_ns

    def see_reference(self, now_ns: int) -> None:
        """Note that the reference camera has delivered."""
        if self._stage is _Stage.BEGINNING:
            self._due_ns = now_ns - self._step_ns // 2
            self._wait_for_others(now_ns)
        elif self._stage is _Stage.NEW_FRAME:
            self._wait_for_others(now_ns)

    def see_arrival(self, now_ns: int, is_aligned: Callable[[], bool]) -> int | None:
        """Return the time of the observation that an arrival makes, None if it makes none."""
        if self._stage is _Stage.OTHER_CAMERAS and is_aligned():
            return self._finish(now_ns)
        return None

    def end(self, now_ns: int) -> int | None:
        """Return the time of the observation that still waited at the end, None if none did."""
        if self._stage is _Stage.OTHER_CAMERAS:
            return self._finish(now_ns)
        return None

    def _wait_for_others(self, now_ns: int) -> None:
        self._stage = _Stage.OTHER_CAMERAS
        self._deadline_ns = now_ns + self._camera_wait_ns

    def _finish(self, at_ns: int) -> int:
        self._due_ns += self._step_ns
        self._stage = _Stage.PAUSE
        self._deadline_ns = self._due_ns
        return at_ns
