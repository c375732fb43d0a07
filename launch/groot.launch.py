# SPDX-License-Identifier: MIT
"""Start the GR00T policy and the command loop: `ros2 launch vla_ros groot.launch.py`.

The graph is described in vla_ros/graphs.py, for this file and for `vla up groot` alike.
"""

from launch import LaunchDescription

from vla_ros.launching import build_launch_description


def generate_launch_description() -> LaunchDescription:
    """Return the launch description that `ros2 launch` runs."""
    return build_launch_description("groot")
