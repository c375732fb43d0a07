# SPDX-License-Identifier: MIT
"""Parameters of planner_node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vla_ros.parameters.declaration import parameter
from vla_ros.parameters.inference import InferenceParameters


@dataclass(frozen=True)
class PlannerParameters(InferenceParameters):
    """Parameters of planner_node."""

    NODE: ClassVar[str] = "planner_node"

    checkpoint: str = parameter(
        "Helix's checkpoint, a shipped name or the path of a folder; only its planner is loaded."
    )
    rate_hz: float = parameter(
        "Rate at which plans start [Hz].", minimum=0.1, maximum=100.0, changes="always"
    )
