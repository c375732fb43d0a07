# SPDX-License-Identifier: MIT
"""Sub-commands of `vla`, one module each."""
