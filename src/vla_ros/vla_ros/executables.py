# SPDX-License-Identifier: MIT
"""The executables of the nodes: Ctrl-C is heeded before anything is imported.

Imports take some tenths of a second, and there is nothing to close before a node is made: until
its own handler is there, Ctrl-C ends the process at once, as quietly as later.
"""

import os
import signal
from functools import partial
from importlib import import_module
from types import FrameType


def _run(name: str) -> int:
    signal.signal(signal.SIGINT, _end)
    return int(import_module(f"vla_ros.nodes.{name}").main())


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)


command_node = partial(_run, "command_node")
episode_node = partial(_run, "episode_node")
planner_node = partial(_run, "planner_node")
player_node = partial(_run, "player_node")
policy_node = partial(_run, "policy_node")
recorder_node = partial(_run, "recorder_node")
replay_node = partial(_run, "replay_node")
sim_robot_node = partial(_run, "sim_robot_node")
