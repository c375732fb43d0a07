# SPDX-License-Identifier: MIT
"""InternVL3 (Zhu et al., 2025, arXiv:2504.10479): InternViT, pixel shuffle and Qwen2.5."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vla_core.models.vlm.decoder_backend import DecoderVLM
from vla_core.models.vlm.registry import register_vlm
from vla_core.models.vlm.transformers_backend import IMAGENET


@register_vlm("internvl")
class InternVLVLM(DecoderVLM):
    """InternVL3 1B: 256 tokens for each image of 448 px, which is not cut into tiles.

    The arguments are those of `TransformersVLM`.
    """

    published = "OpenGVLab/InternVL3-1B-hf"
    architecture = "InternVLForConditionalGeneration"
    prompt_head = "<|im_start|>user\n"
    prompt = "{text}<|im_end|>\n<|im_start|>assistant\n"
    image_prefix = "<img>"
    image_suffix = "</img>\n"
    normalization = IMAGENET

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        """Return a configuration of transformers for a small model."""
        return {
            "image_token_id": 519,
            "downsample_ratio": 0.5,
            "vision_config": {
                "model_type": "internvl_vision",
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": [28, 28],
                "patch_size": [7, 7],
            },
            "text_config": {
                "model_type": "qwen2",
                "vocab_size": 520,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
            },
        }

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Turn pixels [B*N, 3, H, W] in [0, 1] into tokens, [B*N, I, D]."""
        model: Any = self.model
        return model.get_image_features(self._normalize(pixels)).pooler_output
