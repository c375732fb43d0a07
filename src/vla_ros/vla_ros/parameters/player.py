# SPDX-License-Identifier: MIT
"""Parameters of player_node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vla_ros.parameters.declaration import NodeParameters, fixed_parameter

# Of vla_core.dataset, which command_node has no use for.
CLOCKS = ("received", "stamp")


@dataclass(frozen=True)
class PlayerParameters(NodeParameters):
    """Parameters of player_node."""

    NODE: ClassVar[str] = "player_node"

    bag: str = fixed_parameter("Folder of a rosbag2 recording, or one of its storage files.")
    contract: str = fixed_parameter(
        "Robot contract, a name of config/robots or a path: its cameras, joint states and inputs "
        "are played, nothing else."
    )
    rate: float = fixed_parameter("Speed, 1.0 as recorded.", minimum=0.01, maximum=100.0)
    start_s: float = fixed_parameter(
        "How much of the beginning is left out [s].", minimum=0.0, maximum=1e6
    )
    duration_s: float = fixed_parameter(
        "How much is played [s]; 0.0 for all.", minimum=0.0, maximum=1e6
    )
    clock: str = fixed_parameter(
        "Whose time /clock is: the recorder's, or that of the messages' stamps.", choices=CLOCKS
    )
    clock_rate_hz: float = fixed_parameter(
        "Steps of /clock in a second of simulated time [Hz].", minimum=10.0, maximum=1000.0
    )
    start_paused: bool = fixed_parameter("Whether it waits until ~/pause is called with false.")
    wait_for_subscribers: bool = fixed_parameter(
        "Whether it waits until every topic has a subscriber, and all that there are are matched."
    )
