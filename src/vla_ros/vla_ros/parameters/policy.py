# SPDX-License-Identifier: MIT
"""Parameters of policy_node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vla_ros.parameters.declaration import parameter
from vla_ros.parameters.inference import InferenceParameters


@dataclass(frozen=True)
class PolicyParameters(InferenceParameters):
    """Parameters of policy_node."""

    NODE: ClassVar[str] = "policy_node"

    checkpoint: str = parameter(
        "Checkpoint, a shipped name or the path of a folder.",
        instead="call ~/load_checkpoint",
    )
    instruction: str = parameter(
        "What the robot is asked to do; empty: idle until another instruction comes.",
        changes="always",
    )
    max_inference_rate_hz: float = parameter(
        "Highest rate at which inferences start [Hz].",
        minimum=0.1,
        maximum=100.0,
        changes="always",
    )
    follows_plans: bool = parameter(
        "Whether planner_node makes the plans: the checkpoint is Helix's, and only its policy is "
        "loaded here.",
    )
    seed: int = parameter(
        "Seed of the sampling; the same seed and observation give the same chunk.",
        minimum=0,
        maximum=2**31 - 1,
        changes="always",
    )
    chunking: str = parameter(
        "Real-time chunking: freeze begins each chunk with the steps of the one before that will "
        "have been executed, as measured; guided draws the rest to the old chunk, too.",
        choices=("off", "freeze", "guided"),
        changes="always",
    )
    command_status_topic: str = parameter(
        "Where the command node tells which chunk it executes; real-time chunking measures by it.",
    )
    frame_wait_s: float = parameter(
        "How long an inference waits for a new frame of the first camera before it takes one "
        "that is already there [s]; 0 takes what is there.",
        minimum=0.0,
        maximum=1.0,
        changes="always",
    )
