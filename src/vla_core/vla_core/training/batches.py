# SPDX-License-Identifier: MIT
"""The order in which frames are trained on, which a resumed run continues exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vla_core.dataset.stream_order import stream_order
from vla_core.errors import ConfigError

Order = Callable[[Tensor, int, int], Tensor]
"""Returns frames, int64 [F], in the order of an epoch, by seed and number of the epoch."""


class BatchSampler:
    """Draws batches without replacement, in a new order every epoch.

    The order depends on seed and epoch alone. The frames that do not fill a batch at the end of an
    epoch are left out of that epoch.

    Args:
        frames: Indices to draw from, int64 [F].
        batch_size: Frames per batch.
        seed: Of the order.
        order: Puts the frames of an epoch in order; None for any order.

    Raises:
        ConfigError: There are fewer frames than a batch needs.
    """

    def __init__(
        self, frames: Tensor, batch_size: int, seed: int, order: Order | None = None
    ) -> None:
        if len(frames) < batch_size:
            raise ConfigError(
                f"batch_size is {batch_size}, but the dataset has only {len(frames)} training "
                f"frames; record more episodes or set batch_size={max(len(frames) // 2, 1)}."
            )
        self._frames = frames
        self._batch_size = batch_size
        self._seed = seed
        self._in_order = order or _any_order
        self._start_epoch(0)

    @property
    def epoch(self) -> int:
        """Passes over the frames that were completed."""
        return self._epoch

    def next_batch(self) -> Tensor:
        """Return the frames of the next batch, int64 [B]."""
        if self._position + self._batch_size > len(self._order):
            self._start_epoch(self._epoch + 1)
        batch = self._order[self._position : self._position + self._batch_size]
        self._position += self._batch_size
        return batch

    def state_dict(self) -> dict[str, int]:
        """Return the position in the order."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._start_epoch(state["epoch"])
        self._position = state["position"]

    def _start_epoch(self, epoch: int) -> None:
        self._order = self._in_order(self._frames, self._seed, epoch)
        self._epoch = epoch
        self._position = 0


class StreamedOrder:
    """An order in which a few readers go through their episodes, each for its rows of a batch.

    Which process has the rows of a reader does not change the order.

    Args:
        episode_lengths: Frames of each episode of the dataset.
        batch_size: Frames per batch, of all readers together.
        readers: Readers, each with one episode at a time.
        buffer_size: Frames of all readers from which the next batch is drawn.
    """

    def __init__(
        self, episode_lengths: Sequence[int], batch_size: int, readers: int, buffer_size: int
    ) -> None:
        self._lengths = np.asarray(episode_lengths, np.int64)
        self._starts = self._lengths.cumsum() - self._lengths
        self._rows = batch_size // readers
        self._readers = readers
        self._buffer_size = max(buffer_size // readers, 1)

    def __call__(self, frames: Tensor, seed: int, epoch: int) -> Tensor:
        """Return the frames of whole episodes, batch after batch, int64.

        Raises:
            ConfigError: A reader has too few frames for its rows of a batch.
        """
        chosen = np.flatnonzero(np.isin(self._starts, frames.numpy()))
        shares: list[list[int]] = [[] for _ in range(self._readers)]
        # The next episode goes to the reader that has the fewest frames.
        for episode in np.random.default_rng([seed, epoch]).permutation(chosen).tolist():
            min(shares, key=self._num_frames).append(episode)
        num_batches = min(map(self._num_frames, shares)) // self._rows
        if num_batches == 0:
            raise ConfigError(
                f"stream.readers is {self._readers}, but {len(chosen)} training episodes do not "
                f"give each {self._rows} frames for a batch; set stream.readers=1."
            )
        parts = [
            self._read(share, np.random.default_rng([seed, epoch, reader + 1]))
            for reader, share in enumerate(shares)
        ]
        count = num_batches * self._rows
        rows = np.stack([part[:count].reshape(num_batches, self._rows) for part in parts], axis=1)
        return torch.from_numpy(rows.reshape(-1))

    def _num_frames(self, episodes: list[int]) -> int:
        return int(self._lengths[episodes].sum())

    def _read(self, episodes: list[int], random: np.random.Generator) -> np.ndarray:
        places = stream_order(
            self._lengths[episodes].tolist(),
            buffer_size=self._buffer_size,
            open_episodes=1,
            random=random,
        )
        return self._starts[episodes][places[:, 0]] + places[:, 1]


def _any_order(frames: Tensor, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return frames[torch.randperm(len(frames), generator=generator)]
