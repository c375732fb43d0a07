# SPDX-License-Identifier: MIT
"""Fusions: from what was seen, said and felt to one feature vector."""

from vla_core.models.fusion.base import AbstractFusion
from vla_core.models.fusion.concatenation import ConcatenationFusion
from vla_core.models.fusion.cross_attention import CrossAttentionFusion
from vla_core.models.fusion.film import FiLMFusion
from vla_core.models.fusion.gated import GatedFusion

__all__ = [
    "AbstractFusion",
    "ConcatenationFusion",
    "CrossAttentionFusion",
    "FiLMFusion",
    "GatedFusion",
]
