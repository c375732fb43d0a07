# SPDX-License-Identifier: MIT
"""Qwen2.5-VL (Bai et al., 2025, arXiv:2502.13923): a window-attention ViT and Qwen2.5."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from vla_core.models.vlm.decoder_backend import DecoderVLM
from vla_core.models.vlm.registry import register_vlm
from vla_core.models.vlm.transformers_backend import CLIP


@register_vlm("qwen2_5_vl")
class Qwen25VLVLM(DecoderVLM):
    """Qwen2.5-VL 3B: 64 tokens for each image of 224 px.

    An image token has a position of its own in time, row and column; what comes after an image
    starts one beyond the largest of them. The arguments are those of `TransformersVLM`; an
    `image_size` in the vision part of `config`, a multiple of 28, replaces the 224 px.
    """

    published = "Qwen/Qwen2.5-VL-3B-Instruct"
    architecture = "Qwen2_5_VLForConditionalGeneration"
    prompt_head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    prompt = "{text}<|im_end|>\n<|im_start|>assistant\n"
    image_prefix = "<|vision_start|>"
    image_suffix = "<|vision_end|>"
    normalization = CLIP
    default_image_size: ClassVar[int] = 224

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        """Return a configuration of transformers for a small model."""
        return {
            "image_token_id": 519,
            "video_token_id": 518,
            "vision_config": {
                "model_type": "qwen2_5_vl_vision",
                "depth": 2,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 32,
                "fullatt_block_indexes": [1],
                "window_size": 28,
                "image_size": 56,
            },
            "text_config": {
                "model_type": "qwen2_5_vl_text",
                "vocab_size": 520,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1_000_000.0,
                    "mrope_section": [2, 1, 1],
                },
            },
        }

    @property
    def image_size(self) -> int:
        """Side of the square that images are resized to, px."""
        return int(getattr(self.model_config.vision_config, "image_size", self.default_image_size))

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Turn pixels [B*N, 3, H, W] in [0, 1] into tokens, [B*N, I, D]."""
        tokens = self._see(pixels).pooler_output
        return tokens.view(len(pixels), -1, tokens.shape[-1])

    def _see(self, pixels: Tensor) -> Any:
        """Return what the vision tower says of pixels [B*N, 3, H, W] in [0, 1]."""
        vision = self.model_config.vision_config
        side, merge = vision.patch_size, vision.spatial_merge_size
        frames = vision.temporal_patch_size
        pixels = self._normalize(pixels)
        count, rows = len(pixels), self.image_size // side
        # Patches come in squares of merge x merge, each as if seen in `frames` equal frames.
        cells = pixels.view(count, 3, rows // merge, merge, side, rows // merge, merge, side)
        cells = cells.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
        patches = cells.expand(*[-1] * 6, frames, -1, -1).reshape(count * rows * rows, -1)
        grid = torch.tensor([[1, rows, rows]] * count, device=pixels.device)
        return self.model.get_submodule("model.visual")(patches, grid_thw=grid)

    def _prefix_positions(self, mask: Tensor, cameras: int) -> Tensor:
        """Return the positions in time, row and column, int64 [3, B, L]."""
        vision = self.model_config.vision_config
        side = self.image_size // vision.patch_size // vision.spatial_merge_size
        head, before, after = (
            len(self.tokenizer.encode(text))
            for text in (self.prompt_head, self.image_prefix, self.image_suffix)
        )
        steps = torch.arange(side)
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        grid = torch.stack([torch.zeros_like(rows), rows, columns]).flatten(1)  # [3, I]
        parts, start = [torch.arange(head).expand(3, -1)], head
        for _ in range(cameras):
            parts += [
                start + torch.arange(before).expand(3, -1),
                start + before + grid,
                start + before + side + torch.arange(after).expand(3, -1),
            ]
            start += before + side + after
        known = torch.cat(parts, dim=1).to(mask.device)  # [3, tokens before the text]
        text = mask[:, known.shape[1] :].long().cumsum(dim=1) - 1 + start  # [B, T]
        batch = len(mask)
        return torch.cat([known[:, None].expand(-1, batch, -1), text.expand(3, -1, -1)], dim=2)

    def _rotary_positions(self, positions: Tensor) -> Tensor:
        return positions.expand(3, -1, -1) if positions.dim() == 2 else positions
