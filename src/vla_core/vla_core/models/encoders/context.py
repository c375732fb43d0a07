# SPDX-License-Identifier: MIT
"""From the tokens of a VLM to one context vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm

from vla_core.errors import ShapeError
from vla_core.models.layers.attention import MultiHeadAttention
from vla_core.models.layers.positional import grid_embedding, sinusoidal_embedding
from vla_core.models.vlm.base import VLMOutput


class ContextPooling(nn.Module):
    """Reads the tokens of all cameras with learned queries and projects what they found.

    Every token is read together with its place (cell of the image or index in the text, and
    camera), so that the queries can attend to places and report where something is, whatever the
    VLM left of it in its features.

    Args:
        vlm_dim: Width of the tokens, a multiple of 4.
        output_dim: Width of the context.
        pooling_dim: Width of each query.
        num_queries: Number of learned queries.
        num_heads: Attention heads; must divide `pooling_dim`.
        num_cameras: Cameras that have an embedding.
        dropout: Probability of dropping an attention weight in training.
    """

    def __init__(
        self,
        vlm_dim: int,
        output_dim: int,
        pooling_dim: int,
        num_queries: int = 8,
        num_heads: int = 4,
        num_cameras: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_cameras = num_cameras
        self.queries = nn.Parameter(torch.randn(1, num_queries, pooling_dim) * pooling_dim**-0.5)
        self.camera_embedding = nn.Parameter(torch.randn(num_cameras, 1, vlm_dim) * 0.02)
        self.norm = nn.LayerNorm(vlm_dim)
        self.attention = MultiHeadAttention(pooling_dim, num_heads, vlm_dim, dropout)
        self.projection = nn.Linear(num_queries * pooling_dim, output_dim)

    def forward(self, output: VLMOutput) -> Tensor:
        """Pool the valid tokens into one context per row, [B, output_dim].

        Raises:
            ShapeError: If the output has more cameras than `num_cameras`.
        """
        if output.num_blocks > self.num_cameras:
            raise ShapeError(
                f"VLM features must have at most {self.num_cameras} cameras (num_cameras), "
                f"got {output.num_blocks}."
            )
        places = _embed_places(output) + self.camera_embedding[: output.num_blocks]  # [N, L/N, D]
        places = places.flatten(0, 1) + self.norm.bias  # [L, D]
        features = output.features.to(self.norm.weight.dtype)
        tokens = layer_norm(features, self.norm.normalized_shape, eps=self.norm.eps)
        return self.projection(self._read(tokens, places, output.mask).flatten(1))

    def _read(self, tokens: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        """Attend from the queries to `tokens * norm.weight + places`, [B, Q, pooling_dim].

        All rows have the same queries. So the key projection is applied to these instead of to
        every token, and the value projection to what each query found: the same function for a
        fraction of the work, and no gradient of the size of the tokens if the VLM is frozen.
        """
        attention, gain = self.attention, self.norm.weight
        heads = attention.num_heads
        key_weight, value_weight = attention.key_value.weight.unflatten(0, (2, heads, -1))
        value_bias = attention.key_value.bias.chunk(2)[1]
        queries = attention.query(self.queries[0]).unflatten(-1, (heads, -1))  # [Q, heads, d]
        queries = queries * queries.shape[-1] ** -0.5
        # A bias of the keys adds the same to all scores of a query: it has no effect.
        probes = torch.einsum("qhd,hdc->hqc", queries, key_weight).flatten(0, 1)  # [heads * Q, D]
        scores = (tokens @ (probes * gain).T).transpose(1, 2) + probes @ places.T  # [B, h * Q, L]
        weights = scores.float().masked_fill(~mask[:, None], -torch.inf).softmax(-1)
        weights = dropout(weights, attention.dropout, self.training)
        found = weights @ tokens * gain + weights @ places  # [B, heads * Q, D]
        found = found.unflatten(1, (heads, -1))
        values = torch.einsum("bhqc,hdc->bqhd", found, value_weight).flatten(2)
        total = weights.sum(-1).unflatten(1, (heads, -1)).transpose(1, 2)  # [B, Q, heads]
        bias = value_bias.unflatten(0, (heads, -1)) * total.unsqueeze(-1)
        return attention.out(values + bias.flatten(2))


def _embed_places(output: VLMOutput) -> Tensor:
    """Embed the place of each token within its block, [L / num_blocks, D]."""
    length, dim = (
        output.features.shape[1] // output.num_blocks,
        output.features.shape[2],
    )
    places = sinusoidal_embedding(torch.arange(length), dim)
    if output.image_grid is not None:
        places[output.image_span] = grid_embedding(*output.image_grid, dim)
    return places.to(output.features.device)
