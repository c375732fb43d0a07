# SPDX-License-Identifier: MIT
"""Replay of recordings: what a policy would have done where a demonstrator acted."""
