# SPDX-License-Identifier: MIT
"""What differs between the robots and data sets that one Octo is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads.base import AbstractActionHead
from vla_core.models.action_heads.ddpm import DDPMActionHead
from vla_core.models.action_heads.mlp import MLPActionHead
from vla_core.models.frameworks.observations import check_proprioception

HEADS = ("mlp", "diffusion")
_SPACE_KEYS = {"action_dim", "state_dim", "chunk_size"}


class ActionSpace(nn.Module):
    """What belongs to one robot or data set: how its state is read and its actions are written.

    Args:
        build_head: Builds a head, given `action_dim` and `chunk_size`.
        hidden_dim: Width of a state's token.
        action_dim: Width of one action.
        state_dim: Width of the state; 0 for none.
        chunk_size: Actions predicted at once.
        state_dropout: Probability, in training, that a row's states are hidden.
    """

    def __init__(
        self,
        build_head: Callable[..., AbstractActionHead],
        hidden_dim: int,
        action_dim: int,
        state_dim: int,
        chunk_size: int,
        state_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.state_dim = state_dim
        self.state_dropout = state_dropout
        self.head = build_head(action_dim=action_dim, chunk_size=chunk_size)
        if state_dim:
            self.state_projection = nn.Linear(state_dim, hidden_dim)
            self.missing_state = nn.Parameter(torch.zeros(hidden_dim))

    def encode(
        self, state: Tensor | None, history: Tensor | None, frame_is_pad: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Embed the states of all steps.

        Args:
            state: The current state, [B, S]; None if it is not known.
            history: The earlier ones, [B, T, S]; None if they are not known.
            frame_is_pad: True where a step is padding, bool [B, T + 1].

        Returns:
            Tokens, [B, T + 1, hidden_dim], and which of them count, bool [B, T + 1]; None if the
            space has no state.

        Raises:
            ShapeError: If a state does not fit.
        """
        if not self.state_dim:
            return None
        batch_size, num_frames = frame_is_pad.shape
        hidden = torch.zeros(batch_size, 1, dtype=torch.bool, device=frame_is_pad.device)
        if self.training and self.state_dropout:
            hidden = torch.rand(batch_size, 1, device=hidden.device) < self.state_dropout
        if state is None:
            current = self.missing_state.expand(batch_size, -1)
        else:
            checked = check_proprioception(state, batch_size, self.state_dim)
            checked = checked.to(self.missing_state.dtype)
            # The embedding of a missing state gets a gradient, perhaps zero, in every step:
            # distributed training asks for one.
            current = torch.where(hidden, self.missing_state, self.state_projection(checked))
        if history is None:
            earlier = current.new_zeros(batch_size, num_frames - 1, current.shape[-1])
            is_known = torch.zeros_like(frame_is_pad[:, 1:])
        else:
            expected = (batch_size, num_frames - 1, self.state_dim)
            if history.shape != expected:
                raise ShapeError(
                    f"history_proprioception must be {list(expected)} (batch, earlier steps, "
                    f"state_dim), got {list(history.shape)}."
                )
            is_pad = frame_is_pad[:, :-1]
            earlier = self.state_projection(history.masked_fill(is_pad.unsqueeze(-1), 0.0))
            is_known = ~is_pad & ~hidden
        embedded = torch.cat([earlier, current.unsqueeze(1)], dim=1)
        return embedded, torch.cat([is_known, is_known.new_ones(batch_size, 1)], dim=1)


def space_sizes(name: str, given: Mapping[str, int], first: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes of a space, those that it does not give being those of the first one.

    Raises:
        ConfigError: If it gives no action_dim or something that is no size, or has no good name.
    """
    unknown = sorted(set(given) - _SPACE_KEYS)
    if unknown or "action_dim" not in given or not name.isidentifier():
        raise ConfigError(
            f"space {name!r} must be named by an identifier and give action_dim, and perhaps "
            f"state_dim and chunk_size, got {dict(given)}."
        )
    return {**first, **given}


def build_octo_head(
    head: str,
    feature_dim: int,
    action_dim: int,
    chunk_size: int,
    hidden_dim: int,
    loss: str,
    diffusion_steps: int,
    prediction: str,
    dropout: float,
) -> AbstractActionHead:
    """Build the head of a space: a regression, or a diffusion clipped as far out as Octo's."""
    if head == "mlp":
        return MLPActionHead(
            feature_dim, action_dim, chunk_size, hidden_dim, loss=loss, dropout=dropout
        )
    return DDPMActionHead(
        feature_dim,
        action_dim,
        chunk_size,
        hidden_dim=hidden_dim,
        diffusion_steps=diffusion_steps,
        prediction=prediction,
        clip_sample=5.0,
        dropout=dropout,
    )
