# SPDX-License-Identifier: MIT
"""Robot episodes on disk as LeRobotDataset v3.0, written and read with pyarrow alone."""

from vla_core.dataset.chunks import ActionChunks, action_chunks
from vla_core.dataset.format import Feature, features_from_contract
from vla_core.dataset.reader import Episode, EpisodeDataset
from vla_core.dataset.writer import EpisodeWriter

__all__ = [
    "ActionChunks",
    "Episode",
    "EpisodeDataset",
    "EpisodeWriter",
    "Feature",
    "action_chunks",
    "features_from_contract",
]
