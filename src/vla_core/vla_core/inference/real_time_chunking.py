# SPDX-License-Identifier: MIT
"""Which steps of the old chunk the next one must begin with: real-time chunking as measured.

A chunk takes effect some time after the observation that it answers. Meanwhile the arm follows the
chunk before, so the new one has to begin with what the old one says about this time, or the arm
jumps where they meet. How long it takes is not guessed from the latency of the inference: whoever
executes the chunks tells when each was first followed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError
from vla_core.inference.chunk_curve import ChunkCurve
from vla_core.types import ActionChunk

CHUNKING_MODES = ("off", "freeze", "guided")
_NUM_MEASUREMENTS = 5
_NUM_PENDING = 32


@dataclass(frozen=True, slots=True, eq=False)
class KnownSteps:
    """What ``Policy.predict_chunk`` is told about a chunk in advance, in the policy's space.

    Attributes:
        committed: The first steps, float32 [c, A].
        overlap: What the old chunk says about the steps after them, float32 [o, A]; None to leave
            them to the policy.
    """

    committed: NDArray[np.float32]
    overlap: NDArray[np.float32] | None


class RealTimeChunking:
    """Remembers the last chunk and how long chunks take to be executed.

    Args:
        mode: ``'off'`` knows no steps, ``'freeze'`` commits those that will have been executed,
            ``'guided'`` tells the rest of the old chunk as well.

    Raises:
        ConfigError: The mode is unknown.
    """

    def __init__(self, mode: str) -> None:
        if mode not in CHUNKING_MODES:
            raise ConfigError(
                f"chunking {mode!r} is unknown; available: "
                f"{', '.join(repr(name) for name in CHUNKING_MODES)}."
            )
        self.mode = mode
        self._delays_s: deque[float] = deque(maxlen=_NUM_MEASUREMENTS)
        self._stamps_ns: dict[int, int] = {}
        self._executed = 0
        self._chunk: ActionChunk | None = None
        self._curve: ChunkCurve | None = None

    @property
    def delay_s(self) -> float:
        """Longest of the last times from an observation to its chunk's execution; NaN at first."""
        return max(self._delays_s, default=math.nan)

    def put_chunk(self, chunk: ActionChunk, sequence: int) -> None:
        """Take the chunk that was just sent.

        Args:
            chunk: The chunk.
            sequence: Its number.
        """
        targets = chunk.policy_actions.astype(np.float64)
        start = targets[0] if self._curve is None else self._curve.sample(chunk.stamp_ns)[0]
        self._curve = ChunkCurve(chunk.stamp_ns, chunk.dt_s, targets, start)
        self._chunk = chunk
        self._stamps_ns[sequence] = chunk.stamp_ns
        if len(self._stamps_ns) > _NUM_PENDING:
            del self._stamps_ns[min(self._stamps_ns)]

    def put_execution(self, sequence: int, stamp_ns: int) -> None:
        """Take a report of who executes the chunks; the first of a sequence is a measurement.

        Args:
            sequence: Number of the chunk that is executed; 0 when none is.
            stamp_ns: When, on the clock of the observations.
        """
        self._executed = sequence
        observed_ns = self._stamps_ns.pop(sequence, None)
        # A clock that was set back measures nothing.
        if observed_ns is not None and stamp_ns >= observed_ns:
            self._delays_s.append((stamp_ns - observed_ns) * 1e-9)

    def known_steps(self, stamp_ns: int) -> KnownSteps | None:
        """Return what is known of the chunk that will answer an observation.

        None where nothing was measured yet, where no chunk is executed, or where the old one has
        ended: then the next one is free.

        Args:
            stamp_ns: Stamp of the observation.
        """
        chunk, delay_s = self._chunk, self.delay_s
        if self.mode == "off" or chunk is None or not self._executed or math.isnan(delay_s):
            return None
        if stamp_ns < chunk.stamp_ns:
            return None
        steps = self._resample(chunk, stamp_ns)
        num_committed = math.ceil(delay_s / chunk.dt_s - 1e-6)
        num_committed = min(num_committed, len(steps), len(chunk.actions) - 1)
        if num_committed == 0:
            return None
        overlap = steps[num_committed:] if self.mode == "guided" else None
        if overlap is not None and len(overlap) == 0:
            overlap = None
        return KnownSteps(steps[:num_committed], overlap)

    def forget(self) -> None:
        """Forget the chunks; how long they take to be executed stays known."""
        self._chunk, self._curve, self._executed = None, None, 0
        self._stamps_ns.clear()

    def _resample(self, chunk: ActionChunk, stamp_ns: int) -> NDArray[np.float32]:
        """Return what the chunk says about the steps after a time, as far as it goes, [n, A]."""
        assert self._curve is not None
        dt_ns = chunk.dt_s * 1e9
        skipped = (stamp_ns - chunk.stamp_ns) / dt_ns  # Steps, seldom a whole number.
        num_left = max(0, math.floor(len(chunk.actions) - skipped + 1e-6))
        if chunk.kind == "joint_position":
            times = [stamp_ns + round((step + 1) * dt_ns) for step in range(num_left)]
            rows = [self._curve.sample(time)[0] for time in times]
            return np.array(rows, dtype=np.float32).reshape(
                num_left, chunk.policy_actions.shape[1]
            )
        # A change per step: a new step covers the end of one old step and the beginning of the
        # next, and its change is the sum of their shares. Absolute columns beside (grippers) come
        # out interpolated.
        index = np.minimum(np.arange(num_left) + skipped, len(chunk.actions) - 1)
        before = index.astype(int)
        after = np.minimum(before + 1, len(chunk.actions) - 1)
        share = (index - before)[:, None]
        actions = chunk.policy_actions
        return ((1.0 - share) * actions[before] + share * actions[after]).astype(np.float32)
