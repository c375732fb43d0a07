# SPDX-License-Identifier: MIT
"""Averaging what overlapping chunks say about the same step (ACT, arXiv:2304.13705).

A policy that is asked in every step predicts each action several times. Their weighted mean is
smoother than any of them, at the price of reacting later.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ChunkError, ConfigError


class TemporalEnsemble:
    """Averages the predictions of a step with weights exp(-m * i), i = 0 for the oldest one.

    Args:
        chunk_size: Steps of a chunk.
        m: Decay of the weights per younger prediction. Positive values trust the older ones more,
            0 trusts all alike, negative ones trust the younger; 0.01 is the published value.

    Raises:
        ConfigError: If the chunk has no step or m is not finite.
    """

    def __init__(self, chunk_size: int, m: float = 0.01) -> None:
        if chunk_size < 1:
            raise ConfigError(f"chunk_size must be at least 1, got {chunk_size}.")
        if not np.isfinite(m):
            raise ConfigError(f"m must be finite, got {m}.")
        self.chunk_size = chunk_size
        self.m = m
        self._step = 0
        self._chunks: deque[tuple[int, NDArray[np.float64]]] = deque()

    @property
    def step(self) -> int:
        """The step whose action comes next."""
        return self._step

    def reset(self) -> None:
        """Forget all chunks, as at the start of an episode."""
        self._step = 0
        self._chunks.clear()

    def add(self, chunk: NDArray[np.floating]) -> None:
        """Take in a chunk [K, A] whose first action is for the current step.

        Raises:
            ChunkError: If it has another length or width than before, or values that are not
                finite.
        """
        actions = np.asarray(chunk, dtype=np.float64)
        width = self._chunks[0][1].shape[1] if self._chunks else "A"
        if (
            actions.ndim != 2
            or len(actions) != self.chunk_size
            or (self._chunks and actions.shape[1] != width)
        ):
            raise ChunkError(
                f"chunk must be [{self.chunk_size}, {width}] (chunk_size, action width), "
                f"got {list(actions.shape)}."
            )
        if not np.isfinite(actions).all():
            raise ChunkError("chunk has values that are not finite; it was not taken in.")
        self._chunks.append((self._step, actions.copy()))

    def advance(self) -> NDArray[np.float64]:
        """Return the action of the current step, [A], and go on to the next step.

        Raises:
            ChunkError: If no chunk reaches as far as this step.
        """
        while self._chunks and self._chunks[0][0] + self.chunk_size <= self._step:
            self._chunks.popleft()
        if not self._chunks:
            raise ChunkError(
                f"no chunk reaches step {self._step}; add one at least every "
                f"{self.chunk_size} steps."
            )
        predictions = np.stack([actions[self._step - start] for start, actions in self._chunks])
        weights = np.exp(-self.m * np.arange(len(predictions)))
        self._step += 1
        return weights @ predictions / weights.sum()

    def update(self, chunk: NDArray[np.floating]) -> NDArray[np.float64]:
        """Take in the chunk of this step and return its action, [A]; `add`, then `advance`.

        Raises:
            ChunkError: If the chunk does not fit.
        """
        self.add(chunk)
        return self.advance()
