# SPDX-License-Identifier: MIT
"""From messages to batches: what training does to data, the robot does with the same code."""
