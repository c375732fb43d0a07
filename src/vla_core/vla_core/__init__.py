# SPDX-License-Identifier: MIT
"""Vision-language-action policies without ROS: models, training, simulation and evaluation."""

__version__ = "0.1.0"
