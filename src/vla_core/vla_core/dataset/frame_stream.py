# SPDX-License-Identifier: MIT
"""Training samples in random order from videos that are decoded from front to back.

A frame in the middle of a video costs the decoding of those before it. Here every frame is decoded
once per epoch: a few episodes at a time go through their videos, the last frames stay at hand for
the histories, and a buffer shuffles what comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.dataset.chunks import action_chunks, history_windows
from vla_core.dataset.format import ACTION, STATE
from vla_core.dataset.reader import EpisodeDataset
from vla_core.errors import ConfigError

Prepare = Callable[[dict[str, NDArray[np.uint8]]], Any]
"""Turns the frames of all cameras, uint8 [H, W, 3] by name, into what is kept of them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One observation with its answer.

    Attributes:
        episode: Place of the episode in the dataset.
        frame: Frame in it.
        task: The instruction.
        images: What was kept of the frame.
        state: Measured values, [S].
        actions: Actions from this frame on, the last one repeated at the end, [K, A].
        action_is_pad: True where the episode had already ended, [K].
        history_images: What was kept of the frames before, oldest first, H.
        history_state: Their states, [H, S].
        history_is_pad: True where the episode had not begun yet, [H].
    """

    episode: int
    frame: int
    task: str
    images: Any
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    action_is_pad: NDArray[np.bool_]
    history_images: tuple[Any, ...]
    history_state: NDArray[np.float32]
    history_is_pad: NDArray[np.bool_]


class FrameStream:
    """Streams the samples of a dataset, every frame once per epoch.

    Args:
        dataset: The episodes.
        chunk_size: Actions of a sample, K.
        history_length: Earlier frames of a sample, H.
        episodes: Places of the episodes to use; None: all.
        prepare: What is kept of a frame, such as a smaller image; None: the frames as they are.
        buffer_size: Samples from which the next one is drawn; each holds its prepared frames.
        open_episodes: Episodes that are decoded at the same time.
        seed: Of the order.
        shard: Number of this reader and how many share the episodes, for several workers.

    Raises:
        ConfigError: A size is not positive, or the shard does not exist.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        *,
        chunk_size: int,
        history_length: int = 0,
        episodes: Sequence[int] | None = None,
        prepare: Prepare | None = None,
        buffer_size: int = 512,
        open_episodes: int = 4,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        for name, value in (("buffer_size", buffer_size), ("open_episodes", open_episodes)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")
        if not 0 <= shard[0] < shard[1]:
            raise ConfigError(f"shard must be (number, count) with number < count, got {shard}.")
        self._dataset = dataset
        self._chunk_size = chunk_size
        self._history_length = history_length
        self._episodes = np.array(
            range(dataset.num_episodes) if episodes is None else episodes, dtype=np.int64
        )
        self._prepare: Prepare = prepare or (lambda frames: frames)
        self._buffer_size = buffer_size
        self._open_episodes = open_episodes
        self._seed = seed
        self._shard = shard

    def epoch(self, number: int) -> Iterator[Sample]:
        """Yield the samples of one pass in an order that seed, pass and shard decide.

        Args:
            number: Number of the pass, from 0.

        Raises:
            DatasetError: A frame is damaged.
        """
        # All shards agree on the order of the episodes, each takes its own part of it.
        order = np.random.default_rng([self._seed, number]).permutation(self._episodes)
        mine = order[self._shard[0] :: self._shard[1]]
        random = np.random.default_rng([self._seed, number, self._shard[0] + 1])
        buffer: list[Sample] = []
        for sample in self._interleaved(deque(mine.tolist()), random):
            if len(buffer) < self._buffer_size:
                buffer.append(sample)
                continue
            place = int(random.integers(self._buffer_size))
            drawn, buffer[place] = buffer[place], sample
            yield drawn
        for place in random.permutation(len(buffer)).tolist():
            yield buffer[place]

    def _interleaved(self, waiting: deque[int], random: np.random.Generator) -> Iterator[Sample]:
        """Yield the samples of several episodes, each in its order."""
        streams: list[Iterator[Sample]] = []
        while waiting or streams:
            while waiting and len(streams) < self._open_episodes:
                streams.append(self._samples(waiting.popleft()))
            place = int(random.integers(len(streams)))
            sample = next(streams[place], None)
            if sample is None:
                del streams[place]
            else:
                yield sample

    def _samples(self, episode: int) -> Iterator[Sample]:
        state, actions = self._dataset.vectors(episode, STATE, ACTION)
        task = self._dataset.tasks[episode]
        chunks = action_chunks([len(actions)], self._chunk_size)
        histories = history_windows([len(actions)], self._history_length)
        earlier: deque[Any] = deque(maxlen=self._history_length)
        for frame, decoded in enumerate(self._dataset.frames(episode)):
            images = self._prepare(decoded)
            missing = self._history_length - len(earlier)
            first = earlier[0] if earlier else images
            yield Sample(
                episode=episode,
                frame=frame,
                task=task,
                images=images,
                state=state[frame],
                actions=actions[chunks.index[frame]],
                action_is_pad=chunks.is_pad[frame],
                history_images=(*[first] * missing, *earlier),
                history_state=state[histories.index[frame]],
                history_is_pad=histories.is_pad[frame],
            )
            earlier.append(images)
