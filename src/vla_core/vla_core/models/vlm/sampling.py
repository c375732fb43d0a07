# SPDX-License-Identifier: MIT
"""Choosing the next token from its scores."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_core.errors import ConfigError


def choose_tokens(
    logits: Tensor,
    temperature: float = 0.0,
    top_k: int | None = None,
    allowed_ids: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose one token per row.

    Args:
        logits: Scores, [B, V].
        temperature: 0 takes the likeliest token; 1 samples as the scores say.
        top_k: Sample among the k likeliest only.
        allowed_ids: The only ids to choose from, int64 [number].
        generator: Where sampling draws from.

    Returns:
        Token ids, int64 [B].

    Raises:
        ConfigError: If the temperature is negative, top_k is not positive, or allowed_ids has an
            id beyond V.
    """
    if temperature < 0:
        raise ConfigError(f"temperature must be at least 0, got {temperature}.")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"top_k must be at least 1, got {top_k}.")
    allowed = _allowed(logits, allowed_ids)
    if allowed is not None:
        logits = logits[:, allowed]
    if temperature == 0:
        chosen = logits.argmax(dim=-1)
    else:
        scores, candidates = logits.float().topk(min(top_k or logits.shape[1], logits.shape[1]))
        probabilities = torch.softmax(scores / temperature, dim=-1)
        device = logits.device if generator is None else generator.device
        drawn = torch.multinomial(probabilities.to(device), 1, generator=generator)
        chosen = candidates.gather(1, drawn.to(logits.device))[:, 0]
    return chosen if allowed is None else allowed[chosen]


def _allowed(logits: Tensor, allowed_ids: Tensor | None) -> Tensor | None:
    if allowed_ids is None:
        return None
    allowed = allowed_ids.to(logits.device)
    size = logits.shape[1]
    if allowed.numel() == 0 or int(allowed.min()) < 0 or int(allowed.max()) >= size:
        raise ConfigError(
            f"allowed_ids must be ids between 0 and {size - 1} (the vocabulary), "
            f"got {allowed.tolist()[:8]}."
        )
    return allowed
