# SPDX-License-Identifier: MIT
"""The simulated table-top arm: physics, cameras, task, gymnasium environment, scripted expert."""

import os

# MuJoCo reads this once, when it is imported; EGL renders without a display.
os.environ.setdefault("MUJOCO_GL", "egl")
