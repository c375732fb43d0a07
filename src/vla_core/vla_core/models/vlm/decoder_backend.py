# SPDX-License-Identifier: MIT
"""Backends whose language model is a decoder, which can be continued token by token.

The decoder layers are called one by one with the keys and values of what came before, so that any
attention mask and gradient checkpointing work with the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla_core.models.vlm.base import VLMOutput, as_camera_images
from vla_core.models.vlm.prefix import AttentionLayout, KeyValue, VLMExtension, VLMPrefix
from vla_core.models.vlm.transformers_backend import TransformersVLM


class DecoderVLM(TransformersVLM):
    """A backend that reads [head | images | text] with a decoder; see `TransformersVLM`.

    Attributes:
        causal_prefix: Whether a token of the prefix sees only those before it.
        first_position: Rotary position of the first token.
    """

    causal_prefix: ClassVar[bool] = True
    first_position: ClassVar[int] = 0

    def encode(self, images: Tensor, text: str | Sequence[str]) -> VLMOutput:
        """Encode all cameras and the text in one sequence, [head | images | text].

        Args:
            images: Camera frames in [0, 1], float [B, N, 3, H, W] or [B, 3, H, W], any H and W;
                they are resized to the model's square.
            text: One instruction for the whole batch, or one per row.

        Returns:
            A single block; `image_span` holds the images of all cameras one after the other, and
            what may stand between them.

        Raises:
            ShapeError: If the images or the number of texts do not fit.
            ConfigError: If a text is longer than `max_text_tokens`.
        """
        images = as_camera_images(images)
        prefix = self.prefill(images, text)
        return self._output(prefix.features, prefix.mask, images.shape[1])

    def prefill(self, images: Tensor, text: str | Sequence[str]) -> VLMPrefix:
        """Encode images and text once, so that tokens can be put after them.

        Raises:
            ShapeError: If the images or the number of texts do not fit.
            ConfigError: If a text is longer than `max_text_tokens`.
        """
        images = as_camera_images(images)
        tokens, mask = self._read(images, text)
        positions = self._prefix_positions(mask, images.shape[1])
        hidden, key_values = self._run(tokens, self._prefix_mask(mask), positions)
        return VLMPrefix(hidden, mask, key_values, _row_positions(positions))

    def extend(
        self, embeddings: Tensor, prefix: VLMPrefix, *, causal: bool = True
    ) -> VLMExtension:
        """Run more tokens after a prefix; they attend to its valid tokens and to each other.

        Args:
            embeddings: The M new tokens, [B, M, D], cast to the model's dtype.
            prefix: What `prefill` or an earlier `extend` returned.
            causal: Whether a new token sees only the new ones before it, or all of them.
        """
        count = embeddings.shape[1]
        positions = prefix.next_positions(count)
        mask = prefix.attention_mask(count, causal)[:, None]  # [B, 1, M, L+M]
        tokens = embeddings.to(self.embedding.weight.dtype)
        hidden, key_values = self._run(tokens, mask, positions, prefix.key_values)
        return VLMExtension(hidden, prefix.followed_by(hidden, key_values, positions))

    @property
    def attention_layout(self) -> AttentionLayout:
        """The form of the keys and values, for an action expert that attends to them."""
        text = self.language_model.config
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return AttentionLayout(
            num_layers=text.num_hidden_layers,
            num_heads=text.num_attention_heads,
            num_kv_heads=text.num_key_value_heads,
            head_dim=head_dim,
            rope_theta=text.rope_parameters["rope_theta"],
        )

    def _prefix_positions(self, mask: Tensor, cameras: int) -> Tensor:
        """Return the rotary positions of the prefix, int64 [B, L] or [axes, B, L]."""
        return mask.long().cumsum(dim=1) - 1 + self.first_position

    def _prefix_mask(self, mask: Tensor) -> Tensor:
        """Return which prefix tokens see which, bool [B, 1, L, L]."""
        length = mask.shape[1]
        among = mask.new_ones(length, length)
        if self.causal_prefix:
            among = among.tril()
        return (mask[:, None, :] & among)[:, None]

    def _run(
        self,
        tokens: Tensor,
        mask: Tensor,
        positions: Tensor,
        past: Sequence[KeyValue] | None = None,
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        language_model = self.language_model
        layers = language_model.layers
        rotary = language_model.rotary_emb(tokens, self._rotary_positions(positions))
        key_values: list[KeyValue] = []
        known_before: Sequence[KeyValue | None] = past or [None] * len(layers)
        tokens, *added = tokens.split(self.hidden_size, dim=-1)
        for layer, before in zip(layers, known_before, strict=True):
            arguments = (layer, tokens, mask, rotary, before)
            if self._recomputes():
                tokens, known = checkpoint(_run_layer, *arguments, use_reentrant=False)
            else:
                tokens, known = _run_layer(*arguments)
            if len(key_values) < len(added):
                tokens = tokens + added[len(key_values)]
            key_values.append(known)
        return language_model.norm(tokens), tuple(key_values)

    def _rotary_positions(self, positions: Tensor) -> Tensor:
        return positions


class _LayerCache:
    """What an attention of transformers asks of a cache: put new keys after the known ones."""

    def __init__(self, known: KeyValue | None) -> None:
        self.known = known

    def update(self, key: Tensor, value: Tensor, *_: Any, **__: Any) -> KeyValue:
        if self.known is not None:
            key = torch.cat([self.known[0], key], dim=2)
            value = torch.cat([self.known[1], value], dim=2)
        self.known = (key, value)
        return self.known


def _run_layer(
    layer: nn.Module,
    tokens: Tensor,
    mask: Tensor,
    rotary: tuple[Tensor, Tensor],
    before: KeyValue | None,
) -> tuple[Tensor, KeyValue]:
    cache = _LayerCache(before)
    output = layer(tokens, attention_mask=mask, position_embeddings=rotary, past_key_values=cache)
    assert cache.known is not None
    return (output[0] if isinstance(output, tuple) else output), cache.known


def _row_positions(positions: Tensor) -> Tensor:
    """Return one position per token, [B, L], where a token may have one per axis."""
    return positions if positions.dim() == 2 else positions.amax(dim=0)
