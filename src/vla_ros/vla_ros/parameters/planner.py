# SPDX-License-Identifier: MIT
"""Parameters of planner_node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vla_ros.parameters.declaration import ManagedParameters, parameter


@dataclass(frozen=True)
class PlannerParameters(ManagedParameters):
    """Parameters of planner_node."""

    NODE: ClassVar[str] = "planner_node"

    contract: str = parameter(
        "Robot contract, a name of config/robots or a path; the checkpoint must fit it."
    )
    checkpoint: str = parameter(
        "Helix's checkpoint, a shipped name or the path of a folder; only its planner is loaded."
    )
    rate_hz: float = parameter(
        "Rate at which plans start [Hz].", minimum=0.1, maximum=100.0, changes="always"
    )
    device: str = parameter(
        "Where the planner runs; auto: CUDA where there is one.", choices=("cpu", "cuda", "auto")
    )
    num_threads: int = parameter("Threads of the planner.", minimum=1, maximum=64)
    camera_wait_s: float = parameter(
        "How long a plan waits for the other cameras to deliver a frame that is not older than "
        "the first one's [s].",
        minimum=0.0,
        maximum=1.0,
        changes="always",
    )
    camera_skew_s: float = parameter(
        "Difference of stamps up to which two frames count as equally old [s].",
        minimum=0.0,
        maximum=1.0,
        changes="always",
    )
