# SPDX-License-Identifier: MIT
"""The last frames of one camera, undecoded until one is used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError
from vla_core.processing.contract import CameraContract
from vla_core.processing.frames import frame_from_message
from vla_core.processing.gaps import GapCause
from vla_core.processing.messages import stamp_ns
from vla_core.processing.source_watch import SourceWatch
from vla_core.processing.stamped_ring import StampedRing

_CAPACITY = 128


class CameraFrames:
    """Gives the frame of a camera that is nearest to a time.

    Args:
        camera: The camera.
        watch: Judges its arrivals and names it.
        span_s: How long frames are kept.
    """

    def __init__(self, camera: CameraContract, watch: SourceWatch, span_s: float) -> None:
        self.watch = watch
        self._camera = camera
        self._ring: StampedRing[Any] = StampedRing(span_s, _CAPACITY)
        self._pixels: NDArray[np.uint8] | None = None
        self._same_since_ns = 0

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest frame, None before the first."""
        return self._ring.newest_ns

    def put(self, message: Any, received_ns: int) -> None:
        """Keep a message; one with the stamp of the newest is noted only."""
        stamp = stamp_ns(message)
        self.watch.note(stamp, received_ns)
        if stamp != self._ring.newest_ns:
            self._ring.add(stamp, message)

    def clear(self) -> None:
        """Forget all frames."""
        self.watch.clear()
        self._ring.clear()
        self._pixels = None

    def newest_until(self, time_ns: int) -> int:
        """Return the stamp of the newest frame that is not after a time.

        Raises:
            GapError: There is none.
        """
        found = next(self._ring.until(time_ns), None)
        if found is None:
            raise self.watch.gap(GapCause.FUTURE, "every frame is stamped in the future")
        return found[0]

    def nearest(self, time_ns: int, tolerance_s: float, oldest_ns: int = 0) -> tuple[int, Any]:
        """Return the stamp and the message of the frame that is nearest to a time.

        Args:
            time_ns: The time.
            tolerance_s: How far from it the frame may be.
            oldest_ns: Frames before this do not count.

        Raises:
            GapError: No frame is within the tolerance.
        """
        found = self._ring.nearest(time_ns, oldest_ns)
        if found is None:
            raise self.watch.gap(GapCause.SKEWED, "it has no frame from that time")
        skew_s = (found[0] - time_ns) * 1e-9
        if abs(found[0] - time_ns) > tolerance_s * 1e9:
            raise self.watch.gap(
                GapCause.SKEWED,
                f"its nearest frame is {skew_s:+.3f} s from that of the reference camera, at most "
                f"{tolerance_s:g} s is allowed",
            )
        return found

    def require_moving(self, stamp: int, message: Any) -> None:
        """Notice a camera that goes on sending one picture.

        Raises:
            GapError: The pixels have been the same for longer than the contract allows.
        """
        limit_s = self._camera.max_frozen_s
        if limit_s is None:
            return
        pixels = np.frombuffer(message.data, dtype=np.uint8)
        if (
            self._pixels is None
            or stamp < self._same_since_ns
            or not np.array_equal(pixels, self._pixels)
        ):
            self._pixels, self._same_since_ns = pixels, stamp
        same_s = (stamp - self._same_since_ns) * 1e-9
        if same_s > limit_s:
            raise self.watch.gap(
                GapCause.FROZEN,
                f"the pixels have been the same for {same_s:.3f} s, at most {limit_s:g} s is "
                "allowed",
            )

    def decode(self, message: Any) -> NDArray[np.uint8]:
        """Return a frame as RGB, uint8 [H, W, 3].

        Raises:
            GapError: The message cannot be used.
        """
        try:
            return frame_from_message(message, self._camera)
        except MessageError as error:
            raise self.watch.gap(GapCause.BROKEN, str(error).rstrip(".")) from error
