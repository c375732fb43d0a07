# SPDX-License-Identifier: MIT
"""Parameters of episode_node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vla_ros.parameters.declaration import NodeParameters, fixed_parameter


@dataclass(frozen=True)
class EpisodeParameters(NodeParameters):
    """Parameters of episode_node."""

    NODE: ClassVar[str] = "episode_node"

    episodes: int = fixed_parameter("Number of episodes to run.", minimum=1, maximum=100000)
    first_seed: int = fixed_parameter(
        "Seed of the first scene; scenes that training may have seen are refused.",
        minimum=0,
        maximum=2**32 - 1,
    )
    swap_instruction: bool = fixed_parameter(
        "Whether to name another target than the scene's own."
    )
    time_limit_s: float = fixed_parameter(
        "Duration after which an episode has failed [s]; 0: that of the simulated task.",
        minimum=0.0,
        maximum=600.0,
    )
    service_timeout_s: float = fixed_parameter(
        "How long a node may take to answer, and the arm to come to rest [s].",
        minimum=0.1,
        maximum=60.0,
    )
    start_timeout_s: float = fixed_parameter(
        "How long the other nodes may take to be ready [s].", minimum=1.0, maximum=600.0
    )
