# SPDX-License-Identifier: MIT
"""Windows of frames: the actions that answer an observation, and the steps before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError


@dataclass(frozen=True)
class ActionChunks:
    """For every frame of a dataset, the frames whose actions form its chunk.

    Attributes:
        index: Frame of each action: t, t+1, ..., and the episode's last beyond its end, [T, K].
        is_pad: True where the episode had already ended, [T, K].
    """

    index: NDArray[np.int64]
    is_pad: NDArray[np.bool_]


def action_chunks(episode_lengths: Sequence[int], chunk_size: int) -> ActionChunks:
    """Lay a window of ``chunk_size`` actions at every frame, never across two episodes.

    Args:
        episode_lengths: Frames of each episode, in the order in which they are stored.
        chunk_size: Actions per window, K.

    Returns:
        One window per frame; the actions past an episode's end repeat its last one as padding.

    Raises:
        ConfigError: ``chunk_size`` is not positive.
    """
    if chunk_size < 1:
        raise ConfigError(f"chunk_size must be at least 1, got {chunk_size}.")
    lengths = np.asarray(episode_lengths, np.int64)
    last = np.repeat(lengths.cumsum() - 1, lengths)  # [T]
    index = np.arange(lengths.sum())[:, None] + np.arange(chunk_size)  # [T, K]
    is_pad = index > last[:, None]
    return ActionChunks(index=np.minimum(index, last[:, None]), is_pad=is_pad)


@dataclass(frozen=True)
class HistoryWindows:
    """For every frame of a dataset, the earlier frames that its observation has.

    Attributes:
        index: Frame of each earlier step, oldest first, and the episode's first before its
            beginning, [T, H].
        is_pad: True where the episode had not begun yet, [T, H].
    """

    index: NDArray[np.int64]
    is_pad: NDArray[np.bool_]


def history_windows(episode_lengths: Sequence[int], history_length: int) -> HistoryWindows:
    """Lay a window of ``history_length`` earlier frames at every frame, within its episode.

    Args:
        episode_lengths: Frames of each episode, in the order in which they are stored.
        history_length: Earlier steps per window, H; 0 for none.

    Returns:
        One window per frame, without the frame itself.

    Raises:
        ConfigError: ``history_length`` is negative.
    """
    if history_length < 0:
        raise ConfigError(f"history_length must not be negative, got {history_length}.")
    lengths = np.asarray(episode_lengths, np.int64)
    first = np.repeat(lengths.cumsum() - lengths, lengths)  # [T]
    index = np.arange(lengths.sum())[:, None] + np.arange(-history_length, 0)  # [T, H]
    is_pad = index < first[:, None]
    return HistoryWindows(index=np.maximum(index, first[:, None]), is_pad=is_pad)
