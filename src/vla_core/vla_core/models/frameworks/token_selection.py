# SPDX-License-Identifier: MIT
"""Picking, of all the tokens that a VLM has read, those that are to mean an action."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_core.models.vlm.base import VLMOutput

SELECTIONS = ("first", "last", "mean")


def select_tokens(output: VLMOutput, pattern: str, count: int = 1) -> Tensor:
    """Return the features of the action tokens, averaged over the blocks, [B, count, D].

    Args:
        output: What a VLM has read.
        pattern: `last` for the last valid tokens; `first` for the first valid ones of the text,
            or where it is too short the last valid ones before it; `mean` for the average of all.
        count: Number of tokens; those that a row lacks are zeros.
    """
    blocks = output.blocks()
    valid = output.mask.view(blocks.shape[:3])  # [B, blocks, L / blocks]
    if pattern == "mean":
        kept = torch.where(output.mask.unsqueeze(-1), output.features, 0.0)
        return kept.sum(1, keepdim=True) / output.mask.sum(1).clamp(min=1)[:, None, None]
    length = blocks.shape[2]
    place = torch.arange(length, device=valid.device)
    rank = -place  # The lowest rank is taken first.
    if pattern == "first":
        start, stop, _ = output.text_span.indices(length)
        in_text = (place >= start) & (place < stop)
        rank = torch.where(in_text, place - 2 * length, rank)
    order = torch.where(valid, rank, length).argsort(dim=-1)[..., :count]
    if pattern == "last":
        order = order.flip(-1)
    chosen = torch.take_along_dim(blocks, order.unsqueeze(-1), dim=2)
    is_valid = torch.take_along_dim(valid, order, dim=2)
    return torch.where(is_valid.unsqueeze(-1), chosen, 0.0).mean(dim=1)
