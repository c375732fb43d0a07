# SPDX-License-Identifier: MIT
"""The sub-commands that vla_ros adds to `vla`."""
