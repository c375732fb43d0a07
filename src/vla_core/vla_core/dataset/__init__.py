# SPDX-License-Identifier: MIT
"""Robot episodes on disk as LeRobotDataset v3.0, written, read and streamed."""

from vla_core.dataset.chunks import (
    ActionChunks,
    HistoryWindows,
    action_chunks,
    history_windows,
)
from vla_core.dataset.format import Feature, features_from_contract
from vla_core.dataset.frame_stream import FrameStream, Sample
from vla_core.dataset.mixture import Mixture
from vla_core.dataset.reader import Episode, EpisodeDataset
from vla_core.dataset.writer import EpisodeWriter

__all__ = [
    "ActionChunks",
    "Episode",
    "EpisodeDataset",
    "EpisodeWriter",
    "Feature",
    "FrameStream",
    "HistoryWindows",
    "Mixture",
    "Sample",
    "action_chunks",
    "features_from_contract",
    "history_windows",
]
