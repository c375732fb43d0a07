# SPDX-License-Identifier: MIT
"""Florence-2 (Xiao et al., 2023, arXiv:2311.06242): DaViT and the encoder-decoder BART.

- The encoder reads [images | text] bidirectionally; its final states are the features.
- What follows runs in the decoder, whose every layer attends to its own tokens and, by
  cross-attention, to the features. The keys and values that cross-attention reads are computed
  once, and are what an action expert attends to: one pair per layer of the decoder.
- Generation forces no token: transformers' own, for a published checkpoint, may be configured to
  begin with <s> and to repeat no three tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla_core.errors import ShapeError
from vla_core.models.vlm.base import VLMOutput, as_camera_images
from vla_core.models.vlm.prefix import AttentionLayout, KeyValue, VLMExtension, VLMPrefix
from vla_core.models.vlm.registry import register_vlm
from vla_core.models.vlm.transformers_backend import (
    IMAGENET,
    TransformersVLM,
    import_transformers,
)

_IMAGE_SIZE = 768


@register_vlm("florence2")
class Florence2VLM(TransformersVLM):
    """Florence-2 base, whose encoder reads images and text, and whose decoder continues them.

    The arguments are those of `TransformersVLM`; an `image_size` in the vision part of `config`, a
    multiple of 32, replaces the 768 px.
    """

    published = "florence-community/Florence-2-base"
    architecture = "Florence2ForConditionalGeneration"
    language_path = "model.language_model"
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
                "decoder_layers": 2,
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

    @property
    def embedding(self) -> nn.Embedding:
        """The table of token embeddings, which encoder, decoder and `logits` share."""
        return self.language_model.shared

    @property
    def attention_layout(self) -> AttentionLayout:
        """The form of the decoder's keys and values, for an action expert that attends to them."""
        text = self.model_config.text_config
        heads = text.decoder_attention_heads
        return AttentionLayout(text.decoder_layers, heads, heads, text.d_model // heads)

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
            ShapeError: If the images or the number of texts do not fit, or there are more tokens
                than the model has positions.
            ConfigError: If a text is longer than `max_text_tokens`.
        """
        images = as_camera_images(images)
        features, mask = self._encode(images, text)
        return self._output(features, mask, images.shape[1])

    def prefill(self, images: Tensor, text: str | Sequence[str]) -> VLMPrefix:
        """Encode images and text once, and project them for the decoder's cross-attention.

        Raises:
            ShapeError: As `encode`.
            ConfigError: As `encode`.
        """
        features, mask = self._encode(as_camera_images(images), text)
        key_values = tuple(
            _project(layer.encoder_attn, features) for layer in self.language_model.decoder.layers
        )
        positions = mask.long().new_full(mask.shape, -1)
        return VLMPrefix(features, mask, key_values, positions, num_encoded=mask.shape[1])

    def extend(
        self, embeddings: Tensor, prefix: VLMPrefix, *, causal: bool = True
    ) -> VLMExtension:
        """Run more tokens in the decoder; they attend to what was encoded and to each other.

        Args:
            embeddings: The M new tokens, [B, M, D], cast to the model's dtype.
            prefix: What `prefill` or an earlier `extend` returned.
            causal: Whether a new token sees only the new ones before it, or all of them.

        Raises:
            ShapeError: If there are more tokens than the decoder has positions.
        """
        count = embeddings.shape[1]
        self._check_positions(prefix.length - prefix.num_encoded + count)
        tokens = embeddings.to(self.embedding.weight.dtype)
        mask = prefix.attention_mask(count, causal)[:, None]  # [B, 1, M, L+M]
        if self._recomputes():
            decoded = checkpoint(self._decode, tokens, mask, prefix, use_reentrant=False)
        else:
            decoded = self._decode(tokens, mask, prefix)
        hidden, key_values = decoded
        positions = prefix.next_positions(count)
        return VLMExtension(hidden, prefix.followed_by(hidden, key_values, positions))

    def begin(self, prefix: VLMPrefix) -> VLMExtension:
        """Run the token that the decoder starts with: the encoder predicts none."""
        start = self.model_config.text_config.decoder_start_token_id
        ids = torch.full_like(prefix.positions[:, :1], start)
        return self.extend(self.embed_tokens(ids), prefix)

    def _encode(self, images: Tensor, text: str | Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the features [B, L, D] of images [B, N, C, H, W] and text, and their mask."""
        tokens, mask = self._read(images, text)
        self._check_positions(mask.shape[1])
        encoder = self.language_model.encoder

        def run() -> Tensor:
            visible = mask[:, None, None].expand(-1, -1, mask.shape[1], -1)
            return encoder(inputs_embeds=tokens, attention_mask=visible).last_hidden_state

        if self._recomputes():
            return checkpoint(run, use_reentrant=False), mask
        return run(), mask

    def _decode(
        self, tokens: Tensor, mask: Tensor, prefix: VLMPrefix
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        library: Any = import_transformers(self.name)
        encoded = prefix.num_encoded
        across = [(key[:, :, :encoded], value[:, :, :encoded]) for key, value in prefix.key_values]
        among = [(key[:, :, encoded:], value[:, :, encoded:]) for key, value in prefix.key_values]
        cache = library.EncoderDecoderCache(
            library.DynamicCache(among), library.DynamicCache(across)
        )
        output = self.language_model.decoder(
            inputs_embeds=tokens,
            attention_mask=mask[..., encoded:],
            encoder_hidden_states=prefix.features[:, :encoded],
            encoder_attention_mask=mask[..., :encoded],
            past_key_values=cache,
            use_cache=True,
        )
        key_values = tuple(
            (torch.cat([key, layer.keys], dim=2), torch.cat([value, layer.values], dim=2))
            for (key, value), layer in zip(across, cache.self_attention_cache.layers, strict=True)
        )
        return output.last_hidden_state, key_values

    def _check_positions(self, count: int) -> None:
        limit = self.model_config.text_config.max_position_embeddings
        if count > limit:
            raise ShapeError(
                f"vlm {self.name!r} has {limit} positions for the tokens of images and text, and "
                f"as many for those that follow, and {count} are needed; use fewer cameras, a "
                "smaller max_text_tokens or a shorter chunk."
            )


def _project(attention: Any, features: Tensor) -> KeyValue:
    """Return what cross-attention reads of [B, L, D]: keys and values, [B, heads, L, head_dim]."""
    width = attention.head_dim
    key, value = (
        project(features).unflatten(-1, (-1, width)).transpose(1, 2)
        for project in (attention.k_proj, attention.v_proj)
    )
    return key, value
