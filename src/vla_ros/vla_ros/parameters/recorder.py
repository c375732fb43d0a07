# SPDX-License-Identifier: MIT
"""Parameters of recorder_node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vla_ros.parameters.declaration import ManagedParameters, parameter


@dataclass(frozen=True)
class RecorderParameters(ManagedParameters):
    """Parameters of recorder_node."""

    NODE: ClassVar[str] = "recorder_node"

    path: str = parameter(
        "Folder of a bag that is recorded from the start; it must not exist yet. Empty: only "
        "episodes are recorded."
    )
    episodes_path: str = parameter(
        "Folder that gets one bag per episode, which ~/start_episode and ~/stop_episode bound.",
        changes="always",
    )
    min_free_mib: int = parameter(
        "Free space below which the bags are closed and none is opened [MiB].",
        minimum=0,
        maximum=2**31 - 1,
        changes="always",
    )
    topics: tuple[str, ...] = parameter(
        "Topics to record: 'name' takes the type from the graph as soon as somebody publishes, "
        "'name package/msg/Type' subscribes at once."
    )
    compress: bool = parameter(
        "Whether the chunks of the next bag are compressed, with zstd.", changes="always"
    )
    depth: int = parameter(
        "Messages per topic that may wait for the recorder; more are dropped and counted.",
        minimum=1,
        maximum=10000,
    )
    poll_rate_hz: float = parameter(
        "How often the subscriptions are read and written out [Hz].", minimum=1.0, maximum=500.0
    )
    discovery_period_s: float = parameter(
        "How often the graph is searched for publishers, for types and profiles [s].",
        minimum=0.1,
        maximum=60.0,
        changes="always",
    )
    flush_period_s: float = parameter(
        "How often a chunk is closed and written to the disk [s]: a killed recorder loses at most "
        "this much.",
        minimum=0.1,
        maximum=60.0,
        changes="always",
    )
