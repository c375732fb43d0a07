# SPDX-License-Identifier: MIT
"""LLaVA 1.5 (Liu et al., 2023, arXiv:2310.03744): CLIP, a two-layer projector and Vicuna."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vla_core.models.vlm.decoder_backend import DecoderVLM
from vla_core.models.vlm.registry import register_vlm
from vla_core.models.vlm.transformers_backend import CLIP


@register_vlm("llava")
class LlavaVLM(DecoderVLM):
    """LLaVA 1.5 7B; the arguments are those of `TransformersVLM`."""

    published = "llava-hf/llava-1.5-7b-hf"
    architecture = "LlavaForConditionalGeneration"
    prompt_head = "<s>USER: "
    prompt = "\n{text} ASSISTANT:"
    normalization = CLIP

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        """Return a configuration of transformers for a small model."""
        return {
            "image_token_id": 519,
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
                "projection_dim": 16,
            },
            "text_config": {
                "model_type": "llama",
                "vocab_size": 520,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
            },
        }

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Turn pixels [B*N, 3, H, W] in [0, 1] into tokens, [B*N, I, D]."""
        model: Any = self.model
        return torch.stack(tuple(model.get_image_features(self._normalize(pixels)).pooler_output))
