# SPDX-License-Identifier: MIT
"""Play a recording to a policy and judge it: `ros2 launch vla_ros replay.launch.py bag:=...`.

The graph is described in vla_ros/replay_graph.py, for this file and for `vla up replay` alike.
"""

from launch import LaunchDescription

from vla_ros.launching import build_launch_description


def generate_launch_description() -> LaunchDescription:
    """Return the launch description that `ros2 launch` runs."""
    return build_launch_description("replay")
