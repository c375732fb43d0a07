# SPDX-License-Identifier: MIT
"""A vision-language model of about half a million parameters that needs no download.

It stands where a large VLM stands in a framework: on a laptop, in tests, and as the backbone of
the policy that this package ships. Its choices:

- Images pass a stem that merges patches, made of matrix products only: quick on a CPU.
- Words are hashed into a small table instead of being looked up in a vocabulary file; two words
  may share a row. Any language works as long as it separates words.
- Each camera is encoded with the text in its own sequence [image tokens | text tokens] by a
  bidirectional transformer, so its cost is linear in the number of cameras.
- Tokens put after that see all cameras, and with sinusoids of their positions a begin token,
  which is what predicts the first of them. The table of the words predicts tokens, too.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.keywords import check_choice, check_sizes
from vla_core.models.layers.attention import TransformerBlock
from vla_core.models.layers.patch_merging import STEM_STRIDE, PatchMergingStem
from vla_core.models.layers.positional import sinusoidal_embedding
from vla_core.models.vlm.base import AbstractVLM, VLMOutput, as_camera_images, as_text_list
from vla_core.models.vlm.prefix import AttentionLayout, KeyValue, VLMExtension, VLMPrefix
from vla_core.models.vlm.registry import register_vlm

_WORD = re.compile(r"[^\W_]+")


@register_vlm("tiny")
class TinyVLM(AbstractVLM):
    """A small transformer over image patches and hashed words.

    The same arguments give the same weights; the global random generator is left untouched.

    Args:
        image_size: Side of the square that images are resized to, px; a multiple of 16.
        hidden_size: Width of the tokens.
        depth: Number of transformer blocks.
        num_heads: Attention heads of a block; must divide `hidden_size`.
        mlp_ratio: Hidden width of a block's MLP over `hidden_size`.
        vocab_size: Rows of the word table; row 0 is padding.
        max_text_tokens: Words of a text, at most.
        max_cameras: Cameras that have an index embedding.
        seed: Seed of the initial weights.
        num_action_tokens: Ids after those of the words, which no word has: for action bins.
            Their embeddings start in an order, neighbours being alike.
        size: 'tiny', the one size that there is, so that all backends can be built alike.

    Raises:
        ConfigError: If the sizes do not fit together.
    """

    def __init__(
        self,
        image_size: int = 96,
        hidden_size: int = 128,
        depth: int = 2,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        vocab_size: int = 512,
        max_text_tokens: int = 12,
        max_cameras: int = 4,
        seed: int = 0,
        num_action_tokens: int = 0,
        size: str = "tiny",
    ) -> None:
        super().__init__()
        check_choice("size", size, ("tiny",))
        check_sizes(hidden_size=hidden_size)
        if not mlp_ratio > 0.0:
            raise ConfigError(f"mlp_ratio must be greater than 0, got {mlp_ratio}.")
        if image_size < STEM_STRIDE or image_size % STEM_STRIDE:
            raise ConfigError(f"image_size must be a multiple of {STEM_STRIDE}, got {image_size}.")
        self.image_size = image_size
        self.hidden_size = hidden_size
        self.vocab_size = vocab_size + num_action_tokens
        self.num_action_tokens = num_action_tokens
        self.max_text_tokens = max_text_tokens
        self.max_cameras = max_cameras
        self._config = {
            "name": self.name,
            "image_size": image_size,
            "hidden_size": hidden_size,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "vocab_size": vocab_size,
            "max_text_tokens": max_text_tokens,
            "max_cameras": max_cameras,
            "seed": seed,
            "num_action_tokens": num_action_tokens,
        }
        self._grid = image_size // STEM_STRIDE
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = PatchMergingStem(image_size, hidden_size)
            self.word_embedding = nn.Embedding(vocab_size, hidden_size, padding_idx=0)
            self.image_position = nn.Parameter(torch.randn(self._grid**2, hidden_size) * 0.02)
            self.text_position = nn.Parameter(torch.randn(max_text_tokens, hidden_size) * 0.02)
            self.camera_embedding = nn.Parameter(torch.randn(max_cameras, hidden_size) * 0.02)
            self.blocks = nn.ModuleList(
                TransformerBlock(hidden_size, num_heads, mlp_ratio) for _ in range(depth)
            )
            self.norm = nn.LayerNorm(hidden_size)
            self.action_embedding = (
                _ordered_embedding(num_action_tokens, hidden_size) if num_action_tokens else None
            )
        self._layout = AttentionLayout(depth, num_heads, num_heads, hidden_size // num_heads)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `name`."""
        return dict(self._config)

    def encode(self, images: Tensor, text: str | Sequence[str]) -> VLMOutput:
        """Encode each camera's image together with the text.

        Args:
            images: Camera frames in [0, 1], float [B, N, 3, H, W] or [B, 3, H, W], any H and W.
            text: One instruction for the whole batch, or one per row.

        Returns:
            One block per camera, [image_size**2 / 256 image tokens | max_text_tokens text tokens].

        Raises:
            ShapeError: If the images or the number of texts do not fit.
            ConfigError: If a text is longer than `max_text_tokens`.
        """
        tokens, mask = self._embed(images, text)
        batch, cameras = tokens.shape[:2]
        num_image_tokens = self._grid**2
        features, _ = self._transform(tokens.flatten(0, 1), mask)
        return VLMOutput(
            features=features.view(batch, -1, self.hidden_size),
            mask=mask.view(batch, -1),
            image_span=slice(0, num_image_tokens),
            text_span=slice(num_image_tokens, features.shape[1]),
            num_blocks=cameras,
            image_grid=(self._grid, self._grid),
        )

    def prefill(self, images: Tensor, text: str | Sequence[str]) -> VLMPrefix:
        """Encode each camera's image with the text; the blocks of all cameras are the prefix.

        A position counts inside a block, so that what follows starts at the same one however
        many cameras there are.

        Raises:
            ShapeError: If the images or the number of texts do not fit.
            ConfigError: If a text is longer than `max_text_tokens`.
        """
        tokens, mask = self._embed(images, text)
        batch, cameras, length = tokens.shape[:3]
        features, key_values = self._transform(tokens.flatten(0, 1), mask)
        return VLMPrefix(
            features=features.view(batch, -1, self.hidden_size),
            mask=mask.view(batch, -1),
            key_values=tuple(
                (_join_cameras(key, cameras), _join_cameras(value, cameras))
                for key, value in key_values
            ),
            positions=torch.arange(length, device=mask.device).repeat(batch, cameras),
        )

    def extend(
        self, embeddings: Tensor, prefix: VLMPrefix, *, causal: bool = True
    ) -> VLMExtension:
        """Run more tokens after a prefix; they see all cameras, the text and each other.

        Args:
            embeddings: The M new tokens, [B, M, D], without positions.
            prefix: What `prefill` or an earlier `extend` returned.
            causal: Whether a new token sees only the new ones before it, or all of them.
        """
        count = embeddings.shape[1]
        positions = prefix.next_positions(count)
        places = sinusoidal_embedding(positions, self.hidden_size).to(embeddings.dtype)
        mask = prefix.attention_mask(count, causal)[:, None]  # [B, 1, M, L+M]
        hidden, key_values = self._run_blocks(embeddings + places, mask, prefix.key_values)
        return VLMExtension(hidden, prefix.followed_by(hidden, key_values, positions))

    def begin(self, prefix: VLMPrefix) -> VLMExtension:
        """Run the begin token: no token of the prefix has seen all cameras, and it does."""
        begin_ids = torch.zeros_like(prefix.positions[:, :1])
        return self.extend(self.embed_tokens(begin_ids), prefix)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Return the input embeddings [B, M, D] of token ids, int64 [B, M]."""
        return nn.functional.embedding(ids, self._table())

    def logits(self, hidden: Tensor) -> Tensor:
        """Return what hidden states [B, M, D] say about the next token, [B, M, vocab_size]."""
        return hidden @ self._table().T / self.hidden_size**0.5

    def action_token_ids(self, num_bins: int) -> Tensor:
        """Return the ids that stand for action bins, the last of the vocabulary, int64 [num_bins].

        Raises:
            ConfigError: If the model was built with fewer.
        """
        if num_bins > self.num_action_tokens:
            raise ConfigError(
                f"vlm 'tiny' has {self.num_action_tokens} action tokens and {num_bins} are "
                f"needed; build it with num_action_tokens={num_bins}."
            )
        return torch.arange(self.vocab_size - num_bins, self.vocab_size)

    @property
    def attention_layout(self) -> AttentionLayout:
        """The form of the keys and values, for an action expert that attends to them."""
        return self._layout

    def hash_words(self, texts: Sequence[str]) -> Tensor:
        """Return the table rows of the words of each text, 0 for padding, int64 [B, T].

        Case and punctuation make no difference.

        Raises:
            ConfigError: If a text has more than `max_text_tokens` words.
        """
        num_rows = self.word_embedding.num_embeddings
        ids = torch.zeros(len(texts), self.max_text_tokens, dtype=torch.int64)
        for row, text in enumerate(texts):
            words = _WORD.findall(text.lower())
            if len(words) > self.max_text_tokens:
                raise ConfigError(
                    f"text has {len(words)} words with its prompt, max_text_tokens is "
                    f"{self.max_text_tokens}: {text[:60]!r}; shorten it or build the vlm with a "
                    "larger max_text_tokens."
                )
            for column, word in enumerate(words):
                ids[row, column] = 1 + zlib.crc32(word.encode()) % (num_rows - 1)
        return ids

    def _embed_images(self, images: Tensor) -> Tensor:
        batch, cameras = images.shape[:2]
        pixels = images.flatten(0, 1).to(self.image_position.dtype)
        size = (self.image_size, self.image_size)
        if pixels.shape[-2:] != size:
            pixels = interpolate(pixels, size, mode="bilinear", antialias=True)
        grid = self.stem(2.0 * pixels - 1.0)
        tokens = grid.flatten(1, 2) + self.image_position  # [B*N, I, D]
        cameras_seen = self.camera_embedding[:cameras, None]
        return tokens.view(batch, cameras, *tokens.shape[1:]) + cameras_seen

    def _embed(self, images: Tensor, text: str | Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the tokens [B, N, I+T, D] and their mask, bool [B*N, I+T]."""
        images = as_camera_images(images)
        batch, cameras = images.shape[:2]
        if cameras > self.max_cameras:
            raise ShapeError(
                f"images must have at most {self.max_cameras} cameras (max_cameras), "
                f"got {cameras}."
            )
        image_tokens = self._embed_images(images)  # [B, N, I, D]
        word_ids = self.hash_words(as_text_list(text, batch)).to(images.device)  # [B, T]
        text_tokens = self.word_embedding(word_ids) + self.text_position
        text_tokens = text_tokens[:, None].expand(-1, cameras, -1, -1)  # [B, N, T, D]
        tokens = torch.cat([image_tokens, text_tokens.to(image_tokens.dtype)], dim=2)
        image_ids = word_ids.new_ones(batch, image_tokens.shape[2])
        mask = torch.cat([image_ids, word_ids], dim=1) != 0
        return tokens, mask.repeat_interleave(cameras, dim=0)

    def _transform(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, tuple[KeyValue, ...]]:
        return self._run_blocks(tokens, mask[:, None, None, :], (None,) * len(self.blocks))

    def _run_blocks(
        self, tokens: Tensor, mask: Tensor, past: Sequence[KeyValue | None]
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        key_values: list[KeyValue] = []
        for block, before in zip(self.blocks, past, strict=True):
            extend = cast(TransformerBlock, block).extend
            if recompute:
                tokens, known = checkpoint(extend, tokens, mask, before, use_reentrant=False)
            else:
                tokens, known = extend(tokens, mask, before)
            key_values.append(known)
        return self.norm(tokens), tuple(key_values)

    def _table(self) -> Tensor:
        words = self.word_embedding.weight
        if self.action_embedding is None:
            return words
        return torch.cat([words, self.action_embedding.weight])

    def _complete(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.action_embedding is None or "action_embedding.weight" in tensors:
            return tensors
        return {**tensors, "action_embedding.weight": self.action_embedding.weight.detach()}


def _ordered_embedding(count: int, width: int) -> nn.Embedding:
    """Return rows that are the more alike the nearer they are.

    A large model knows the order of its number tokens from its pre-training; a bin whose
    neighbours look like any other bin has to be learned from its own few examples.
    """
    rows = sinusoidal_embedding(torch.arange(count), width)
    return nn.Embedding.from_pretrained(rows, freeze=False)


def _join_cameras(x: Tensor, cameras: int) -> Tensor:
    """Put the cameras' tokens one after the other: [B*N, heads, L, d] to [B, heads, N*L, d]."""
    return x.unflatten(0, (-1, cameras)).transpose(1, 2).flatten(2, 3)
