# SPDX-License-Identifier: MIT
"""Blocks that several models are made of."""
