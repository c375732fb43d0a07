# SPDX-License-Identifier: MIT
"""Parameters of every node that runs a model on what the robot's cameras show."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.parameters.declaration import ManagedParameters, parameter


@dataclass(frozen=True)
class InferenceParameters(ManagedParameters):
    """What policy_node and planner_node have in common."""

    contract: str = parameter(
        "Robot contract, a name of config/robots or a path; the checkpoint must fit it."
    )
    device: str = parameter(
        "Where the model runs; auto: CUDA where there is one.", choices=("cpu", "cuda", "auto")
    )
    num_threads: int = parameter("Threads of the model.", minimum=1, maximum=64)
    camera_wait_s: float = parameter(
        "How long an inference waits for the other cameras to deliver a frame that is not older "
        "than the first one's [s].",
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
