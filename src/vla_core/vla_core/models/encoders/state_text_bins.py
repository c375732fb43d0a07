# SPDX-License-Identifier: MIT
"""States as text in the prompt, in bins, as pi0.5 gives them (arXiv:2504.16054)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def state_bins(state: Tensor, num_bins: int = 256) -> Tensor:
    """Return the bin of each number: `num_bins` equal bins over [-1, 1], the rest clipped.

    Args:
        state: Normalised states, any shape.
        num_bins: Number of bins.

    Returns:
        Bins, int64 of the same shape, 0 to `num_bins` - 1; an edge belongs to the bin above it.
    """
    edges = torch.linspace(-1.0, 1.0, num_bins + 1, device=state.device)[1:-1]
    return torch.bucketize(state.float().contiguous(), edges, right=True)


def state_prompts(texts: Sequence[str], state: Tensor | None, num_bins: int = 256) -> list[str]:
    """Return the prompt of each row: instruction and binned state.

    Args:
        texts: Instruction of each row.
        state: Normalised states, [B, S]; None if they are not known.
        num_bins: Bins of each number.
    """
    if state is None:
        return [f"Task: {text};\nAction: " for text in texts]
    rows = state_bins(state, num_bins).tolist()
    return [
        f"Task: {text}, State: {' '.join(map(str, row))};\nAction: "
        for text, row in zip(texts, rows, strict=True)
    ]
