# SPDX-License-Identifier: MIT
"""Frames that are decoded from front to back, and kept until they were used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.dataset.reader import EpisodeDataset

Frames = dict[str, NDArray[np.uint8]]

Prepare = Callable[[Frames], Any]
"""Turns the frames of all cameras, uint8 [H, W, 3] by name, into what is kept of them."""


@dataclass
class _Opened:
    """An episode that is being decoded.

    Attributes:
        decoded: Its frames.
        is_cached: Whether what was kept of them stays.
        next_frame: Number of the next one of these.
        kept: What was kept of frames, and how many more times it is needed.
    """

    decoded: Iterator[Frames]
    is_cached: bool
    next_frame: int = 0
    kept: dict[int, tuple[Any, int]] = field(default_factory=dict)


class FrameStore:
    """Gives any frame, quickest if each is asked for once and those of an episode nearly in order.

    A frame in the middle of a video costs the decoding of those before it. These are kept until
    they were asked for in their turn; one that was not kept is decoded again.

    Args:
        dataset: The episodes.
        prepare: What is kept of a frame.
        history_length: Earlier frames that are asked for together with each.
        keeps_skipped: Whether frames that are passed over will be asked for; if not, they are
            forgotten, and one episode is open at a time.
        cached_frames: Room for frames that stay when they were used, and are decoded once; the
            episodes that are opened first and fit have it. Only where skipped frames are kept.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        prepare: Prepare,
        history_length: int = 0,
        *,
        keeps_skipped: bool = True,
        cached_frames: int = 0,
    ) -> None:
        self._dataset = dataset
        self._prepare = prepare
        self._history_length = history_length
        self._keeps_skipped = keeps_skipped
        self._room = cached_frames if keeps_skipped else 0
        self._lengths = dataset.episode_lengths
        self._opened: dict[int, _Opened] = {}

    @property
    def num_kept(self) -> int:
        """Frames that are kept."""
        return sum(len(opened.kept) for opened in self._opened.values())

    def window(self, episode: int, frame: int) -> list[Any]:
        """Return what is kept of the earlier frames, oldest first, and of a frame.

        Before the episode begins, its first frame is repeated.

        Raises:
            DatasetError: There is no such episode, or a frame is damaged.
        """
        first = max(frame - self._history_length, 0)
        opened = self._opened.get(episode)
        if opened is None or any(
            number not in opened.kept for number in range(first, min(frame + 1, opened.next_frame))
        ):
            opened = self._open(episode)
        self._decode(opened, self._lengths[episode], first, frame)
        window = [opened.kept[number][0] for number in range(first, frame + 1)]
        if not opened.is_cached:
            self._use(opened, first, frame)
        if opened.next_frame == self._lengths[episode]:
            opened.decoded = iter(())  # The files need not stay open.
            if not opened.kept:
                del self._opened[episode]
        return [window[0]] * (self._history_length + 1 - len(window)) + window

    def forget(self) -> None:
        """Let go of all frames but those that stay, when the rest of a pass is not wanted."""
        self._opened = {e: opened for e, opened in self._opened.items() if opened.is_cached}

    def _open(self, episode: int) -> _Opened:
        is_cached = self._lengths[episode] <= self._room
        if is_cached:
            self._room -= self._lengths[episode]
        if not self._keeps_skipped:
            self._opened.clear()
        opened = _Opened(self._dataset.frames(episode), is_cached)
        self._opened[episode] = opened
        return opened

    @staticmethod
    def _use(opened: _Opened, first: int, last: int) -> None:
        for number in range(first, last + 1):
            value, uses = opened.kept.pop(number)
            if uses > 1:
                opened.kept[number] = (value, uses - 1)

    def _decode(self, opened: _Opened, length: int, first: int, frame: int) -> None:
        if not self._keeps_skipped:
            opened.kept = {n: kept for n, kept in opened.kept.items() if n >= first}
        while opened.next_frame <= frame:
            decoded, number = next(opened.decoded), opened.next_frame
            if self._keeps_skipped or number >= first:
                uses = min(self._history_length + 1, length - number)
                opened.kept[number] = (self._prepare(decoded), uses)
            opened.next_frame += 1
