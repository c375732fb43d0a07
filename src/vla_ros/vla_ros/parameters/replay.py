# SPDX-License-Identifier: MIT
"""Parameters of replay_node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vla_ros.parameters.declaration import NodeParameters, fixed_parameter
from vla_ros.parameters.player import CLOCKS


@dataclass(frozen=True)
class ReplayParameters(NodeParameters):
    """Parameters of replay_node."""

    NODE: ClassVar[str] = "replay_node"

    bag: str = fixed_parameter("The recording that is played.")
    output: str = fixed_parameter("Folder of the results.")
    contract: str = fixed_parameter("Robot contract, a name of config/robots or a path.")
    checkpoint: str = fixed_parameter(
        "The policy that runs, a shipped name or the path of a folder."
    )
    device: str = fixed_parameter(
        "Where it is asked again when all is played; auto: CUDA where there is one.",
        choices=("cpu", "cuda", "auto"),
    )
    actions: tuple[str, ...] = fixed_parameter(
        "What the demonstrator did: 'command', 'state', or topics, as `vla replay --actions`."
    )
    instruction: str = fixed_parameter("What the policy is asked to do; empty: what the bag says.")
    instruction_topic: str = fixed_parameter("Topic of the bag with the instruction; empty: none.")
    episode_topic: str = fixed_parameter(
        "Topic of the bag that says when an episode runs; empty: that of a policy's status."
    )
    clock: str = fixed_parameter(
        "Whose time /clock is: the recorder's, or that of the messages' stamps.", choices=CLOCKS
    )
    asks_again: bool = fixed_parameter(
        "Whether the policy is also asked without ROS, to say how both differ."
    )
    probe_every: int = fixed_parameter(
        "Answers between two checks with spoilt inputs, 0 for none.", minimum=0, maximum=1000000
    )
    player: str = fixed_parameter(
        "Who plays: player_node, or the player of rosbag2.", choices=("own", "rosbag2")
    )
