# SPDX-License-Identifier: MIT
"""Florence-2 (Xiao et al., 2023, arXiv:2311.06242): DaViT and the encoder of BART."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vla_core.models.vlm.base import VLMOutput, as_camera_images
from vla_core.models.vlm.registry import register_vlm
from vla_core.models.vlm.transformers_backend import IMAGENET, TransformersVLM

_IMAGE_SIZE = 768


@register_vlm("florence2")
class Florence2VLM(TransformersVLM):
    """Florence-2 base, whose encoder reads images and text; it lends features and no more.

    Its decoder attends to them by cross-attention, so it cannot continue a prefix: `prefill` and
    what stands on it are refused. The arguments are those of `TransformersVLM`; an `image_size`
    in the vision part of `config`, a multiple of 32, replaces the 768 px.
    """

    published = "florence-community/Florence-2-base"
    architecture = "Florence2ForConditionalGeneration"
    language_path = "model.language_model.encoder"
    prompt = "<s>{text}</s>"
    normalization = IMAGENET

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        """Return a configuration of transformers for a small model."""
        return {
            "image_token_id": 519,
            "vision_config": {
                "model_type": "florence_vision",
                "depths": [1, 1],
                "patch_size": [7, 3],
                "patch_stride": [4, 2],
                "patch_padding": [3, 1],
                "patch_prenorm": [False, True],
                "embed_dim": [8, 16],
                "num_heads": [2, 2],
                "num_groups": [2, 2],
                "window_size": 4,
                "projection_dim": 32,
                "image_size": 32,
            },
            "text_config": {
                "model_type": "bart",
                "vocab_size": 520,
                "d_model": 32,
                "encoder_layers": 2,
                "decoder_layers": 1,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 4,
                "encoder_ffn_dim": 64,
                "decoder_ffn_dim": 64,
                "max_position_embeddings": 256,
            },
        }

    @property
    def image_size(self) -> int:
        """Side of the square that images are resized to, px."""
        return int(getattr(self.model_config.vision_config, "image_size", _IMAGE_SIZE))

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Turn pixels [B*N, 3, H, W] in [0, 1] into tokens, [B*N, I, D]."""
        model: Any = self.model
        return model.get_image_features(self._normalize(pixels)).pooler_output

    def encode(self, images: Tensor, text: str | Sequence[str]) -> VLMOutput:
        """Encode all cameras and the text in one sequence, [images | text].

        Args:
            images: Camera frames in [0, 1], float [B, N, 3, H, W] or [B, 3, H, W], any H and W.
            text: One instruction for the whole batch, or one per row.

        Returns:
            A single block; each image begins with one token for the whole of it.

        Raises:
            ShapeError: If the images or the number of texts do not fit.
            ConfigError: If a text is longer than `max_text_tokens`.
        """
        images = as_camera_images(images)
        tokens, mask = self._read(images, text)
        if self._recomputes():
            features = checkpoint(self._encode_tokens, tokens, mask, use_reentrant=False)
        else:
            features = self._encode_tokens(tokens, mask)
        assert isinstance(features, torch.Tensor)
        return self._output(features, mask, images.shape[1])

    def _encode_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.language_model(inputs_embeds=tokens, attention_mask=mask).last_hidden_state
