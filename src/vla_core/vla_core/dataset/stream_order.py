# SPDX-License-Identifier: MIT
"""An order of frames that is nearly random, and still goes through every episode once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def stream_order(
    episode_lengths: Sequence[int],
    *,
    buffer_size: int,
    open_episodes: int,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Go through several episodes at a time, and draw from a buffer of what comes.

    Args:
        episode_lengths: Frames of each episode, in the order in which they are begun.
        buffer_size: Frames from which the next one is drawn.
        open_episodes: Episodes that are gone through at the same time.
        random: Decides the order.

    Returns:
        Place of the episode and frame in it, every frame once, [F, 2].
    """
    num_frames = sum(episode_lengths)
    draws = random.random((2, num_frames))
    waiting = deque(range(len(episode_lengths)))
    opened: list[list[int]] = []
    order: list[tuple[int, int]] = []
    buffer: list[tuple[int, int]] = []
    for pick, place in zip(*draws.tolist(), strict=True):
        while waiting and len(opened) < open_episodes:
            opened.append([waiting.popleft(), 0])
        number = int(pick * len(opened))
        episode, frame = opened[number]
        opened[number][1] += 1
        if frame + 1 == episode_lengths[episode]:
            del opened[number]
        if len(buffer) < buffer_size:
            buffer.append((episode, frame))
        else:
            drawn = int(place * buffer_size)
            order.append(buffer[drawn])
            buffer[drawn] = (episode, frame)
    order.extend(buffer[place] for place in random.permutation(len(buffer)))
    return np.array(order, np.int64).reshape(-1, 2)
