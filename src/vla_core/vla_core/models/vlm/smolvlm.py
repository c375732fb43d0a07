# SPDX-License-Identifier: MIT
"""SmolVLM2 (Marafioti et al., 2025, arXiv:2504.05299): SigLIP, pixel shuffle and SmolLM2."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vla_core.models.vlm.decoder_backend import DecoderVLM
from vla_core.models.vlm.registry import register_vlm


@register_vlm("smolvlm")
class SmolVLM(DecoderVLM):
    """SmolVLM2 500M: 64 tokens for each image of 512 px, which is not cut into tiles.

    This is the backbone of SmolVLA (arXiv:2506.01844). The arguments are those of
    `TransformersVLM`.
    """

    published = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
    architecture = "SmolVLMForConditionalGeneration"
    language_path = "model.text_model"
    prompt_head = "<|im_start|>User:"
    prompt = "{text}<end_of_utterance>\nAssistant:"
    image_prefix = "<fake_token_around_image><global-img>"
    image_suffix = "<fake_token_around_image>"

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        """Return a configuration of transformers for a small model."""
        return {
            "scale_factor": 2,
            "image_token_id": 519,
            "tie_word_embeddings": False,
            "vision_config": {
                "model_type": "smolvlm_vision",
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 16,
                "patch_size": 4,
            },
            "text_config": {
                "model_type": "llama",
                "vocab_size": 520,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "pad_token_id": 0,
            },
        }

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Turn pixels [B*N, 3, H, W] in [0, 1] into tokens, [B*N, I, D].

        The parts are called one by one: `get_image_features` takes an image whose pixels are all
        zero for padding and drops it.
        """
        model: Any = self.model.get_submodule("model")
        patches = self.image_size // self.model_config.vision_config.patch_size
        mask = pixels.new_ones(len(pixels), patches, patches).bool()
        seen = model.vision_model(pixel_values=self._normalize(pixels), patch_attention_mask=mask)
        return model.connector(seen.last_hidden_state)
