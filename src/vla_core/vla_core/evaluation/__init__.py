# SPDX-License-Identifier: MIT
"""Evaluation: success in the simulation, statistics of a recorded run, and the report of both."""
