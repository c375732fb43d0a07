# SPDX-License-Identifier: MIT
"""Policies and the parts they are made of: layers, encoders, VLMs, action heads, frameworks."""
