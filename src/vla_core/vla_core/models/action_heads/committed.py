# SPDX-License-Identifier: MIT
"""Steps of a chunk that are known before it is sampled: real-time chunking.

While a policy thinks, the arm goes on along the old chunk. The part that will have been executed
by the time the new chunk arrives is frozen into it; what the old chunk says beyond may guide the
rest (Black, Galliker and Levine, 2025, arXiv:2506.07339).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vla_core.errors import ShapeError

_LARGEST_GUIDANCE = 5.0  # beta of the paper


class CommittedActions:
    """The known steps of a chunk, and how a sampler follows them.

    A sampler is at ``signal * actions + noise * noise``; flow matching and diffusion differ in how
    the two factors fall and rise.

    Args:
        frozen: Normalised actions of the first c steps, [B, c, A], c below K; None for none.
        overlap: What the old chunk says about the steps after them, [B, o, A], c + o at most K;
            None to let the sampler find them unguided.
        chunk_size: Steps of the chunk, K.
        action_dim: Width of an action, A.

    Raises:
        ShapeError: The steps do not fit the chunk or each other.
    """

    def __init__(
        self, frozen: Tensor | None, overlap: Tensor | None, chunk_size: int, action_dim: int
    ) -> None:
        given = [part for part in (frozen, overlap) if part is not None]
        if not given:
            raise ShapeError(
                "committed steps must be given: frozen ones, overlapping ones or both."
            )
        for name, part in (("committed", frozen), ("overlap", overlap)):
            if part is not None and (part.dim() != 3 or part.shape[-1] != action_dim):
                raise ShapeError(
                    f"{name} must be [B, steps, {action_dim}], got {list(part.shape)}."
                )
        known = torch.cat(given, dim=1).float()
        num_frozen = 0 if frozen is None else frozen.shape[1]
        num_known = known.shape[1]
        if num_frozen >= chunk_size or num_known > chunk_size:
            raise ShapeError(
                f"committed steps must be fewer than the chunk's {chunk_size}, and with the "
                f"overlap at most as many; got {num_frozen} and {num_known - num_frozen}."
            )
        missing = known.new_zeros(len(known), chunk_size - num_known, action_dim)
        self._target = torch.cat([known, missing], dim=1)  # [B, K, A]
        steps = torch.arange(chunk_size, device=known.device).unsqueeze(-1)
        self._is_frozen = steps < num_frozen  # [K, 1]
        self._weights: Tensor | None = None
        if overlap is not None:
            self._weights = known.new_tensor(_soft_mask(num_frozen, num_known, chunk_size))

    def overwrite(self, chunk: Tensor) -> Tensor:
        """Return the chunk [B, K, A] with exactly the frozen steps in it.

        Raises:
            ShapeError: It has another batch size than the frozen steps.
        """
        if chunk.shape != self._target.shape:
            raise ShapeError(
                f"committed steps for {list(self._target.shape)} (batch, chunk_size, action_dim) "
                f"do not fit the predicted chunk {list(chunk.shape)}."
            )
        return torch.where(self._is_frozen, self._target.to(chunk.dtype), chunk)

    def inpaint(self, x: Tensor, start: Tensor, signal: float, noise: float) -> Tensor:
        """Put the frozen steps to where they are on the way.

        Args:
            x: Where the sampler is, [B, K, A] or flat, [B, K * A].
            start: The noise that it started from, of the same shape.
            signal: Factor of the actions in x.
            noise: Factor of the noise in x.
        """
        place = signal * self._target + noise * start.view_as(self._target)
        return torch.where(self._is_frozen, place, x.view_as(self._target)).view_as(x)

    def estimate(
        self, predict: Callable[[Tensor], Tensor], x: Tensor, signal: float, noise: float
    ) -> Tensor:
        """Return the clean actions that a sampler expects, drawn towards the known steps.

        It is pseudo-inverse guidance (Song et al., 2023): the error of the known steps goes back
        through the network to where the sampler is.

        Args:
            predict: From x to the clean actions, both of x's shape, differentiable.
            x: Where the sampler is, [B, K, A] or flat, [B, K * A].
            signal: Factor of the actions in x.
            noise: Factor of the noise in x.
        """
        if self._weights is None:
            return predict(x)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            clean = predict(x)
            error = self._weights * (self._target - clean.detach().view_as(self._target))
            (direction,) = torch.autograd.grad(clean, x, error.view_as(clean))
        ratio = math.inf
        if signal > 0.0:
            ratio = (signal**2 + noise**2) / (signal * noise)
        return clean.detach() + noise * min(_LARGEST_GUIDANCE, ratio) * direction


def _soft_mask(num_frozen: int, num_known: int, chunk_size: int) -> list[list[float]]:
    """Return the weight of each step: 1 where frozen, falling to 0 where the old chunk ends."""
    weights = []
    for step in range(chunk_size):
        share = (num_known - step) / (num_known - num_frozen + 1)
        falling = share * math.expm1(max(share, 0.0)) / (math.e - 1.0)
        weights.append([1.0 if step < num_frozen else max(falling, 0.0)])
    return weights
