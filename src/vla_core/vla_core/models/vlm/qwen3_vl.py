# SPDX-License-Identifier: MIT
"""Qwen3-VL (Qwen team, 2025, arXiv:2511.21631): Qwen2.5-VL's plan with DeepStack and Qwen3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vla_core.models.vlm.qwen2_5_vl import Qwen25VLVLM
from vla_core.models.vlm.registry import register_vlm
from vla_core.models.vlm.transformers_backend import HALF


@register_vlm("qwen3_vl")
class Qwen3VLVLM(Qwen25VLVLM):
    """Qwen3-VL 2B: 64 tokens for each image of 256 px.

    Features of earlier layers of the vision tower are added to the image tokens after the first
    layers of the language model (DeepStack, arXiv:2406.04334). The arguments are those of
    `TransformersVLM`; an `image_size` in the vision part of `config`, a multiple of 32, replaces
    the 256 px.
    """

    published = "Qwen/Qwen3-VL-2B-Instruct"
    architecture = "Qwen3VLForConditionalGeneration"
    prompt_head = "<|im_start|>user\n"
    normalization = HALF
    default_image_size = 256

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        """Return a configuration of transformers for a small model."""
        return {
            "image_token_id": 519,
            "video_token_id": 518,
            "vision_config": {
                "model_type": "qwen3_vl_vision",
                "depth": 2,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 32,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0],
                "image_size": 64,
            },
            "text_config": {
                "model_type": "qwen3_vl_text",
                "vocab_size": 520,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 5_000_000.0,
                    "mrope_section": [2, 1, 1],
                },
            },
        }

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Turn pixels into tokens and what is added to them after each of the first layers.

        Args:
            pixels: [B*N, 3, H, W] in [0, 1].

        Returns:
            [B*N, I, D + layers D].
        """
        seen = self._see(pixels)
        tokens = torch.cat([seen.pooler_output, *seen.deepstack_features], dim=-1)
        return tokens.view(len(pixels), -1, tokens.shape[-1])
