# SPDX-License-Identifier: MIT
"""From an observation to a safe command: policy, action chunks, limits."""
