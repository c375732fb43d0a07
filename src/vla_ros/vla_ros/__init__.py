# SPDX-License-Identifier: MIT
"""ROS 2 nodes that run the policies of `vla_core` on a robot."""
