# SPDX-License-Identifier: MIT
"""Training: from a recipe and a dataset to a checkpoint that a robot can run."""
