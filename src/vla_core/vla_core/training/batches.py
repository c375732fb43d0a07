# SPDX-License-Identifier: MIT
"""The order in which frames are trained on, which a resumed run continues exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_core.errors import ConfigError


class BatchSampler:
    """Draws batches without replacement, in a new order every epoch.

    The order depends on seed and epoch alone. The frames that do not fill a batch at the end of an
    epoch are left out of that epoch.

    Args:
        frames: Indices to draw from, int64 [F].
        batch_size: Frames per batch.
        seed: Of the order.

    Raises:
        ConfigError: There are fewer frames than a batch needs.
    """

    def __init__(self, frames: Tensor, batch_size: int, seed: int) -> None:
        if len(frames) < batch_size:
            raise ConfigError(
                f"batch_size is {batch_size}, but the dataset has only {len(frames)} training "
                f"frames; record more episodes or set batch_size={max(len(frames) // 2, 1)}."
            )
        self._frames = frames
        self._batch_size = batch_size
        self._seed = seed
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
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        self._order = self._frames[torch.randperm(len(self._frames), generator=generator)]
        self._epoch = epoch
        self._position = 0
