# SPDX-License-Identifier: MIT
"""A second transformer that attends, layer by layer, to what a language model has read.

It has one layer for each of the language model's, with weights of its own. In each layer its
queries see the keys and values of the language model's layer and of its own tokens in one joint
attention, as the action expert of pi0 does (arXiv:2410.24164).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from vla_core.models.layers.film import modulate
from vla_core.models.layers.positional import sinusoidal_embedding
from vla_core.models.vlm.prefix import AttentionLayout, KeyValue


def blockwise_mask(query_blocks: Tensor, key_blocks: Tensor, key_valid: Tensor) -> Tensor:
    """Return who may attend to whom: to all of its own block and of the blocks before it.

    Args:
        query_blocks: Block index of each query, int64 [M].
        key_blocks: Block index of each key, int64 [L].
        key_valid: False where a key is padding, bool [B, L].

    Returns:
        bool [B, M, L].
    """
    not_later = key_blocks[None, :] <= query_blocks[:, None]  # [M, L]
    return not_later & key_valid[:, None, :]


class RMSNorm(nn.Module):
    """Scales by the root of the mean square (Zhang and Sennrich, 2019, arXiv:1910.07467).

    Args:
        dim: Width of what is scaled.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [..., dim]."""
        mean_square = x.float().square().mean(-1, keepdim=True)
        return (x.float() * torch.rsqrt(mean_square + 1e-6)).to(x.dtype) * self.weight


class AdaptiveRMSNorm(nn.Module):
    """Normalises, lets a condition scale and shift the result, and gates what is made of it.

    It is AdaLN-Zero (Peebles and Xie, 2023, arXiv:2212.09748) with a root mean square: the gate
    starts closed. Without a condition it is a plain `RMSNorm` with an open gate.

    Args:
        dim: Width of what is normalised.
        condition_dim: Width of the condition; None for none.
    """

    def __init__(self, dim: int, condition_dim: int | None = None) -> None:
        super().__init__()
        self.norm = RMSNorm(dim)
        self.modulation: nn.Linear | None = None
        if condition_dim is not None:
            self.modulation = nn.Linear(condition_dim, 3 * dim)
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | float]:
        """Normalise [B, M, dim] by a condition [B, condition_dim]; return it and the gate."""
        normed = self.norm(x)
        if self.modulation is None or condition is None:
            return normed, 1.0
        width = x.shape[-1]
        gamma_beta, gate = self.modulation(condition).unsqueeze(1).split([2 * width, width], -1)
        return modulate(normed, gamma_beta), gate


class ActionExpert(nn.Module):
    """Transforms tokens that come after those of a language model.

    Args:
        layout: The attention of the language model.
        dim: Width of the tokens.
        mlp_dim: Hidden width of the gated MLPs.
        condition_dim: Width of what modulates every layer, as the time does in pi0.5
            (arXiv:2504.16054); None for nothing.
    """

    def __init__(
        self, layout: AttentionLayout, dim: int, mlp_dim: int, condition_dim: int | None = None
    ) -> None:
        super().__init__()
        self.layout = layout
        self.dim = dim
        self.layers = nn.ModuleList(
            _ExpertLayer(layout, dim, mlp_dim, condition_dim) for _ in range(layout.num_layers)
        )
        self.norm = RMSNorm(dim)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: Tensor,
        past: Sequence[KeyValue],
        condition: Tensor | None = None,
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        """Run tokens after those whose keys and values are known.

        Args:
            tokens: The new tokens, [B, M, dim].
            positions: Their positions, int64 [B, M].
            mask: True where a new token may attend, bool [B, M, L + M].
            past: Keys and values of the L tokens before, for each layer, each
                [B, num_kv_heads, L, head_dim].
            condition: What modulates every layer, [B, condition_dim].

        Returns:
            Final hidden states [B, M, dim], and keys and values of all L + M tokens.
        """
        if self.layout.rope_theta is None:
            # Keys without rotary positions: the tokens themselves have to say where they are.
            tokens = tokens + sinusoidal_embedding(positions, self.dim).to(tokens.dtype)
        key_values: list[KeyValue] = []
        for layer, before in zip(self.layers, past, strict=True):
            tokens, known = layer(tokens, positions, mask[:, None], before, condition)
            key_values.append(known)
        return self.norm(tokens), tuple(key_values)


class _ExpertLayer(nn.Module):
    def __init__(
        self, layout: AttentionLayout, dim: int, mlp_dim: int, condition_dim: int | None
    ) -> None:
        super().__init__()
        self.layout = layout
        inner_dim = layout.num_heads * layout.head_dim
        self.attention_norm = AdaptiveRMSNorm(dim, condition_dim)
        self.query = nn.Linear(dim, inner_dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * layout.num_kv_heads * layout.head_dim, bias=False)
        self.out = nn.Linear(inner_dim, dim, bias=False)
        self.mlp_norm = AdaptiveRMSNorm(dim, condition_dim)
        self.gate_up = nn.Linear(dim, 2 * mlp_dim, bias=False)
        self.down = nn.Linear(mlp_dim, dim, bias=False)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor,
        past: KeyValue,
        condition: Tensor | None,
    ) -> tuple[Tensor, KeyValue]:
        normed, gate = self.attention_norm(x, condition)
        query = self._split_heads(self.query(normed))
        key, value = map(self._split_heads, self.key_value(normed).chunk(2, -1))
        if self.layout.rope_theta is not None:
            query = rotate(query, positions, self.layout.rope_theta)
            key = rotate(key, positions, self.layout.rope_theta)
        # [B, num_kv_heads, L + M, head_dim]
        key = torch.cat([past[0].to(key.dtype), key], dim=2)
        value = torch.cat([past[1].to(value.dtype), value], dim=2)
        shared = self.layout.num_heads // self.layout.num_kv_heads
        attended = scaled_dot_product_attention(
            query,
            key.repeat_interleave(shared, dim=1),
            value.repeat_interleave(shared, dim=1),
            mask,
        )
        x = x + gate * self.out(attended.transpose(1, 2).flatten(2))
        normed, gate = self.mlp_norm(x, condition)
        opening, up = self.gate_up(normed).chunk(2, -1)
        x = x + gate * self.down(gelu(opening, approximate="tanh") * up)
        return x, (key, value)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.layout.head_dim)).transpose(1, 2)


def rotate(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotate the two halves of each head by its position (arXiv:2104.09864).

    Args:
        x: Queries or keys, [B, heads, M, head_dim].
        positions: int64 [B, M].
        theta: Base of the periods.
    """
    half = x.shape[-1] // 2
    exponents = torch.arange(half, device=x.device, dtype=torch.float32) / half
    angles = positions[:, None, :, None].float() * theta**-exponents  # [B, 1, M, half]
    first, second = x.float().chunk(2, dim=-1)
    cosine, sine = angles.cos(), angles.sin()
    rotated = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    return rotated.to(x.dtype)
