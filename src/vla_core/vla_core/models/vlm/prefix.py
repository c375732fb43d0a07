# SPDX-License-Identifier: MIT
"""What a vision-language model has read so far, kept so that tokens can be put after it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class AttentionLayout:
    """The form of a model's attention, which an expert beside it has to share.

    Attributes:
        num_layers: Layers, each with keys and values of its own.
        num_heads: Query heads.
        num_kv_heads: Key and value heads; each serves `num_heads / num_kv_heads` query heads.
        head_dim: Width of a head.
        rope_theta: Base of the rotary positions (Su et al., 2021, arXiv:2104.09864) that the keys
            carry, applied to the two halves of a head; None if they carry none.
    """

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float | None = None


@dataclass(frozen=True)
class VLMPrefix:
    """The tokens read so far: images and text, and whatever was put after them.

    Attributes:
        features: Final hidden states, [B, L, D].
        mask: True where a token is valid and False where it is padding, bool [B, L].
        key_values: Keys and values of each layer, each [B, num_kv_heads, L, head_dim]. The keys
            already carry rotary positions where the model has them.
        positions: Position of each token in its row, int64 [B, L]; padding repeats the one before.
        num_encoded: Tokens at the beginning of L that an encoder read. Their keys and values are
            those of the decoder's cross-attention, and their position is -1, since the decoder
            counts from 0; 0 in a model without an encoder.
    """

    features: Tensor
    mask: Tensor
    key_values: tuple[KeyValue, ...]
    positions: Tensor
    num_encoded: int = 0

    @property
    def length(self) -> int:
        """Number of tokens L, padding included."""
        return self.mask.shape[1]

    def next_positions(self, count: int) -> Tensor:
        """Return the positions of the next `count` tokens of each row, int64 [B, count]."""
        steps = torch.arange(1, count + 1, device=self.positions.device)
        return self.positions.amax(dim=1, keepdim=True) + steps

    def attention_mask(self, count: int, causal: bool = True) -> Tensor:
        """Return which tokens the next `count` ones may attend to, bool [B, count, L + count]."""
        batch = self.mask.shape[0]
        among = self.mask.new_ones(count, count)
        if causal:
            among = among.tril()
        before = self.mask[:, None].expand(batch, count, self.length)
        return torch.cat([before, among.expand(batch, count, count)], dim=2)

    def last_features(self) -> Tensor:
        """Return the features of the last valid token of each row, [B, D]."""
        steps = torch.arange(self.length, device=self.mask.device)
        last = torch.where(self.mask, steps, 0).amax(dim=1)
        return self.features[torch.arange(len(last), device=last.device), last]

    def followed_by(
        self, hidden: Tensor, key_values: tuple[KeyValue, ...], positions: Tensor
    ) -> VLMPrefix:
        """Return the prefix with M more valid tokens.

        Args:
            hidden: Their final hidden states, [B, M, D].
            key_values: Keys and values of all L + M tokens.
            positions: Their positions, int64 [B, M].
        """
        valid = self.mask.new_ones(hidden.shape[:2])
        return replace(
            self,
            features=torch.cat([self.features, hidden], dim=1),
            mask=torch.cat([self.mask, valid], dim=1),
            key_values=key_values,
            positions=torch.cat([self.positions, positions], dim=1),
        )

    def rows(self, index: Tensor) -> VLMPrefix:
        """Return the batch rows that `index` (int64 or bool, [rows]) selects."""
        return replace(
            self,
            features=self.features[index],
            mask=self.mask[index],
            key_values=tuple((key[index], value[index]) for key, value in self.key_values),
            positions=self.positions[index],
        )

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> VLMPrefix:
        """Return the prefix on `device`, its features, keys and values as `dtype` if given."""
        return replace(
            self,
            features=self.features.to(device=device, dtype=dtype),
            mask=self.mask.to(device),
            key_values=tuple(
                (key.to(device=device, dtype=dtype), value.to(device=device, dtype=dtype))
                for key, value in self.key_values
            ),
            positions=self.positions.to(device),
        )

    def detach(self) -> VLMPrefix:
        """Return the prefix cut off from the graph that computed it."""
        return replace(
            self,
            features=self.features.detach(),
            key_values=tuple((key.detach(), value.detach()) for key, value in self.key_values),
        )


@dataclass(frozen=True)
class VLMExtension:
    """M tokens run after a prefix.

    Attributes:
        hidden: Their final hidden states, [B, M, D].
        prefix: The prefix with them, ready for more.
    """

    hidden: Tensor
    prefix: VLMPrefix
