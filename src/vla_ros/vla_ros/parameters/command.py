# SPDX-License-Identifier: MIT
"""Parameters of command_node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vla_core.inference.action_chunks import BLENDINGS
from vla_ros.parameters.declaration import ManagedParameters, parameter


@dataclass(frozen=True)
class CommandParameters(ManagedParameters):
    """Parameters of command_node."""

    NODE: ClassVar[str] = "command_node"

    contract: str = parameter("Robot contract, a name of config/robots or a path.")
    motor_checkpoint: str = parameter(
        "Helix's checkpoint, whose motor control corrects every command by the newest state; "
        "empty: none."
    )
    max_correction_s: float = parameter(
        "Largest correction by Helix's motor control, as the time in which a joint covers it at "
        "its velocity limit [s].",
        minimum=0.0,
        maximum=1.0,
    )
    dry_run: str = parameter(
        "Whether the node begins with previews only, until ~/arm is called: 'contract' does as "
        "the contract's safety.dry_run says.",
        choices=("contract", "always", "never"),
    )
    has_robot: bool = parameter(
        "Whether there is a robot to take the commands; with false, as in a replay, no output is "
        "missed and none gets ready."
    )
    blend_s: float = parameter(
        "Duration of the fade from one chunk to the next [s].",
        minimum=0.0,
        maximum=1.0,
        changes="always",
    )
    blending: str = parameter(
        "How chunks are merged: 'blend' fades to the newest, 'ensemble' averages all that have "
        "not ended.",
        choices=BLENDINGS,
    )
    ensemble_m: float = parameter(
        "Decay of the weights of an ensemble: above 0 older chunks count more, below 0 less.",
        minimum=-10.0,
        maximum=10.0,
    )
    slow_s: float = parameter(
        "Time before the end of a chunk from which on it is followed ever slower, if no other "
        "has come [s].",
        minimum=0.0,
        maximum=1.0,
    )
    start_speed: float = parameter(
        "Share of the velocity limits with which a motion approaches its first target.",
        minimum=0.01,
        maximum=1.0,
    )
    num_lookahead: int = parameter(
        "Ticks that every trajectory plans along the chunk before its stop tail.",
        minimum=3,
        maximum=50,
    )
    max_tracking_error: float = parameter(
        "How far any joint may be from its command before the arm is stopped, until the next "
        "instruction [rad or m].",
        minimum=0.001,
        maximum=10.0,
        changes="always",
    )
    validity_service: str = parameter(
        "MoveIt's service that judges the way ahead of a chunk, check_state_validity of "
        "move_group; empty: nobody does."
    )
    validity_group: str = parameter("Planning group that it judges; empty: the whole robot.")
    validity_horizon_s: float = parameter(
        "How far ahead it looks: longer than the arm takes to stop [s].",
        minimum=0.1,
        maximum=5.0,
    )
    validity_needed: bool = parameter(
        "Whether the arm holds where the service is missing or late; false only reports it."
    )
    teleop_timeout_s: float = parameter(
        "Silence of teleop_joint_states after which the leader arm has let go [s].",
        minimum=0.02,
        maximum=5.0,
        changes="always",
    )
    marker_rate_hz: float = parameter(
        "Rate of ~/markers, the predicted path of the tool [Hz]; 0 for none. Needs the "
        "contract's kinematics.",
        minimum=0.0,
        maximum=20.0,
    )
    realtime_priority: int = parameter(
        "Real-time priority of the loop, so that a busy machine does not delay its ticks; 0 for "
        "an ordinary process. Where it is not permitted the node says so and goes on without.",
        minimum=0,
        maximum=98,
        changes="never",
    )
