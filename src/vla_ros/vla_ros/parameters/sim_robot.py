# SPDX-License-Identifier: MIT
"""Parameters of sim_robot_node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vla_core.sim.tasks import AUTO_TASK, TASKS
from vla_ros.parameters.declaration import ManagedParameters, parameter


@dataclass(frozen=True)
class SimRobotParameters(ManagedParameters):
    """Parameters of sim_robot_node."""

    NODE: ClassVar[str] = "sim_robot_node"

    contract: str = parameter(
        "Robot contract, a name of config/robots or a path: topics, joints, cameras, limits."
    )
    task: str = parameter(
        "Task of the simulation, for its scene; auto: the first one of the contract's robot.",
        choices=(AUTO_TASK, *TASKS),
    )
    seed: int = parameter("Seed of the first episode's scene.", minimum=0, maximum=2**32 - 1)
    loop_rate_hz: float = parameter(
        "Rate of the loop that advances physics and takes commands [Hz]. Physics steps at 500 Hz.",
        minimum=50.0,
        maximum=500.0,
    )
    joint_state_rate_hz: float = parameter(
        "Rate of joint_states [Hz], at most loop_rate_hz.",
        minimum=1.0,
        maximum=500.0,
        changes="always",
    )
    camera_rate_hz: float = parameter(
        "Rate of every camera [Hz]; 0 switches rendering off.",
        minimum=0.0,
        maximum=60.0,
        changes="always",
    )
    status_rate_hz: float = parameter(
        "Rate of ~/status [Hz].", minimum=1.0, maximum=100.0, changes="always"
    )
    controller_distro: str = parameter(
        "ROS distribution whose joint_trajectory_controller defaults apply. Humble accepts a "
        "trajectory that ends with a velocity, the others reject it; lyrical and rolling splice.",
        choices=("humble", "jazzy", "kilted", "lyrical", "rolling"),
    )
    interpolate_from_desired_state: bool = parameter(
        "Whether a new trajectory starts from the desired state instead of the measured one, as "
        "streaming needs (open_loop_control in humble)."
    )
    realtime_priority: int = parameter(
        "Real-time priority of the loop, so that a busy machine does not delay its ticks; 0 for "
        "an ordinary process. Where it is not permitted the node says so and goes on without.",
        minimum=0,
        maximum=98,
        changes="never",
    )
