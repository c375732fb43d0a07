# SPDX-License-Identifier: MIT
"""Frameworks: whole policies, each in the one file that bears its name."""

from vla_core.models.frameworks.act import ACTVLA
from vla_core.models.frameworks.base import AbstractVLA
from vla_core.models.frameworks.custom import CustomVLA
from vla_core.models.frameworks.gr00t import GR00TVLA
from vla_core.models.frameworks.helix import HelixVLA
from vla_core.models.frameworks.octo import OctoVLA
from vla_core.models.frameworks.openvla import OpenVLA
from vla_core.models.frameworks.pi0 import Pi0VLA
from vla_core.models.frameworks.registry import (
    available_frameworks,
    framework_class,
    register_framework,
)
from vla_core.models.frameworks.rt2 import RT2VLA

load = AbstractVLA.from_pretrained

__all__ = [
    "ACTVLA",
    "GR00TVLA",
    "RT2VLA",
    "AbstractVLA",
    "CustomVLA",
    "HelixVLA",
    "OctoVLA",
    "OpenVLA",
    "Pi0VLA",
    "available_frameworks",
    "framework_class",
    "load",
    "register_framework",
]
