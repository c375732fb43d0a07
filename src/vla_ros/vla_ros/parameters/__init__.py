# SPDX-License-Identifier: MIT
"""Parameters of the nodes, a file for each."""

from vla_ros.parameters.command import CommandParameters
from vla_ros.parameters.episode import EpisodeParameters
from vla_ros.parameters.planner import PlannerParameters
from vla_ros.parameters.player import PlayerParameters
from vla_ros.parameters.policy import PolicyParameters
from vla_ros.parameters.recorder import RecorderParameters
from vla_ros.parameters.replay import ReplayParameters
from vla_ros.parameters.sim_robot import SimRobotParameters

__all__ = [
    "CommandParameters",
    "EpisodeParameters",
    "PlannerParameters",
    "PlayerParameters",
    "PolicyParameters",
    "RecorderParameters",
    "ReplayParameters",
    "SimRobotParameters",
]
