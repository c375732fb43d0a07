# SPDX-License-Identifier: MIT
"""Training samples in random order from videos that are decoded from front to back.

A frame in the middle of a video costs the decoding of those before it. Here every frame is decoded
once per epoch: a few episodes at a time go through their videos, the last frames stay at hand for
the histories, and a buffer shuffles what comes. Frames for which there is room stay for the epochs
to come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.dataset.chunks import (
    ActionChunks,
    HistoryWindows,
    action_chunks,
    history_windows,
)
from vla_core.dataset.format import ACTION, STATE
from vla_core.dataset.frame_store import FrameStore, Prepare
from vla_core.dataset.reader import EpisodeDataset
from vla_core.dataset.stream_order import stream_order
from vla_core.errors import ConfigError


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Vectors:
    """What an episode holds beside its frames."""

    task: str
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    chunks: ActionChunks
    histories: HistoryWindows

    def sample(self, episode: int, frame: int, window: list[Any]) -> Sample:
        """Return the sample of a frame, given what was kept of it and of those before it."""
        return Sample(
            episode=episode,
            frame=frame,
            task=self.task,
            images=window[-1],
            state=self.state[frame],
            actions=self.actions[self.chunks.index[frame]],
            action_is_pad=self.chunks.is_pad[frame],
            history_images=tuple(window[:-1]),
            history_state=self.state[self.histories.index[frame]],
            history_is_pad=self.histories.is_pad[frame],
        )


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
        cached_frames: Prepared frames that stay in memory; later epochs do not decode them again.
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
        cached_frames: int = 0,
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
        used = np.array(range(dataset.num_episodes) if episodes is None else episodes, np.int64)
        # A shard keeps its episodes, as it may have cached them.
        self._mine = np.random.default_rng(seed).permutation(used)[shard[0] :: shard[1]]
        self._store = FrameStore(
            dataset,
            prepare or (lambda frames: frames),
            history_length,
            cached_frames=cached_frames,
        )
        self._buffer_size = buffer_size
        self._open_episodes = open_episodes
        self._seed = seed
        self._shard = shard[0]

    def epoch(self, number: int) -> Iterator[Sample]:
        """Yield the samples of one pass in an order that seed, pass and shard decide.

        Args:
            number: Number of the pass, from 0.

        Raises:
            DatasetError: A frame is damaged.
        """
        random = np.random.default_rng([self._seed, number, self._shard])
        mine = random.permutation(self._mine).tolist()
        self._store.forget()
        lengths = self._dataset.episode_lengths
        places = stream_order(
            [lengths[episode] for episode in mine],
            buffer_size=self._buffer_size,
            open_episodes=self._open_episodes,
            random=random,
        )
        left = {episode: lengths[episode] for episode in mine}
        vectors: dict[int, _Vectors] = {}
        for place, frame in places.tolist():
            episode = mine[place]
            if episode not in vectors:
                vectors[episode] = self._read(episode)
            yield vectors[episode].sample(episode, frame, self._store.window(episode, frame))
            left[episode] -= 1
            if left[episode] == 0:
                del vectors[episode]

    def _read(self, episode: int) -> _Vectors:
        state, actions = self._dataset.vectors(episode, STATE, ACTION)
        return _Vectors(
            task=self._dataset.tasks[episode],
            state=state,
            actions=actions,
            chunks=action_chunks([len(actions)], self._chunk_size),
            histories=history_windows([len(actions)], self._history_length),
        )
