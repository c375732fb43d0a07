# SPDX-License-Identifier: MIT
"""Encoders of what a policy observes beside the VLM, and of what the VLM found."""

from vla_core.models.encoders.base import AbstractStateEncoder
from vla_core.models.encoders.context import ContextPooling
from vla_core.models.encoders.mlp_state import MLPStateEncoder
from vla_core.models.encoders.patch_merging import PatchMergingEncoder
from vla_core.models.encoders.resnet import ResNetEncoder
from vla_core.models.encoders.token_memory import TokenMemory
from vla_core.models.encoders.vision import (
    AbstractVisionEncoder,
    PatchVisionEncoder,
    available_vision_encoders,
    get_vision_encoder,
    register_vision_encoder,
)
from vla_core.models.encoders.vq_encoder import VQStateEncoder
from vla_core.models.encoders.vq_state import VQStateTokenizer

__all__ = [
    "AbstractStateEncoder",
    "AbstractVisionEncoder",
    "ContextPooling",
    "MLPStateEncoder",
    "PatchMergingEncoder",
    "PatchVisionEncoder",
    "ResNetEncoder",
    "TokenMemory",
    "VQStateEncoder",
    "VQStateTokenizer",
    "available_vision_encoders",
    "get_vision_encoder",
    "register_vision_encoder",
]
