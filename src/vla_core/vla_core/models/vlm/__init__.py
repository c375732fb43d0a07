# SPDX-License-Identifier: MIT
"""Vision-language models."""

from vla_core.models.vlm.base import AbstractVLM, VLMOutput
from vla_core.models.vlm.florence2 import Florence2VLM
from vla_core.models.vlm.internvl import InternVLVLM
from vla_core.models.vlm.llava import LlavaVLM
from vla_core.models.vlm.paligemma import PaliGemmaVLM
from vla_core.models.vlm.prefix import AttentionLayout, VLMExtension, VLMPrefix
from vla_core.models.vlm.prismatic import PrismaticVLM
from vla_core.models.vlm.qwen2_5_vl import Qwen25VLVLM
from vla_core.models.vlm.qwen3_vl import Qwen3VLVLM
from vla_core.models.vlm.registry import available_vlms, get_vlm, register_vlm, vlm_from_config
from vla_core.models.vlm.smolvlm import SmolVLM
from vla_core.models.vlm.tiny import TinyVLM

__all__ = [
    "AbstractVLM",
    "AttentionLayout",
    "Florence2VLM",
    "InternVLVLM",
    "LlavaVLM",
    "PaliGemmaVLM",
    "PrismaticVLM",
    "Qwen3VLVLM",
    "Qwen25VLVLM",
    "SmolVLM",
    "TinyVLM",
    "VLMExtension",
    "VLMOutput",
    "VLMPrefix",
    "available_vlms",
    "get_vlm",
    "register_vlm",
    "vlm_from_config",
]
