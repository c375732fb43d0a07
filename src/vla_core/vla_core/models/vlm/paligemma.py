# SPDX-License-Identifier: MIT
"""PaliGemma (Beyer et al., 2024, arXiv:2407.07726): SigLIP, a linear projection and Gemma."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vla_core.models.vlm.decoder_backend import DecoderVLM
from vla_core.models.vlm.registry import register_vlm


@register_vlm("paligemma")
class PaliGemmaVLM(DecoderVLM):
    """PaliGemma 3B of 224 px; images and text attend to each other in both directions.

    This is the backbone of Pi0. The arguments are those of `TransformersVLM`.
    """

    published = "google/paligemma-3b-pt-224"
    architecture = "PaliGemmaForConditionalGeneration"
    prompt = "<bos>{text}\n"
    causal_prefix = False
    first_position = 1

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        """Return a configuration of transformers for a small model."""
        return {
            "projection_dim": 32,
            "image_token_id": 519,
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
                "projection_dim": 32,
                "vision_use_head": False,
            },
            "text_config": {
                "model_type": "gemma",
                "vocab_size": 520,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 1,
                "head_dim": 8,
            },
        }

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Turn pixels [B*N, 3, H, W] in [0, 1] into tokens, [B*N, I, D]."""
        model: Any = self.model
        return model.get_image_features(self._normalize(pixels)).pooler_output
