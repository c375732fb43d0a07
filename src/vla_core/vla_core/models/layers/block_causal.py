# SPDX-License-Identifier: MIT
"""Who may attend to whom in a sequence of task, observation and readout tokens.

The rule of Octo (arXiv:2405.12213): task tokens see the task; observations see the task and
what was observed until then; readouts see what the observations of their step see. Nobody
sees a readout but itself, so that readouts can be added to a trained transformer without changing
what it computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor


class TokenKind(IntEnum):
    """What a token stands for."""

    TASK = 0
    OBSERVATION = 1
    READOUT = 2


@dataclass(frozen=True)
class TokenGroup:
    """Tokens that follow each other and are alike to the mask.

    Attributes:
        kind: What they stand for.
        count: How many they are.
        step: When they were observed, or read out; of no account for the task.
    """

    kind: TokenKind
    count: int
    step: int = 0


def block_causal_mask(groups: list[TokenGroup]) -> Tensor:
    """Return which token may attend to which, bool [L queries, L keys]."""
    counts = torch.tensor([group.count for group in groups])
    kinds = torch.tensor([int(group.kind) for group in groups]).repeat_interleave(counts)
    steps = torch.tensor([group.step for group in groups]).repeat_interleave(counts)

    reads_observations = kinds != TokenKind.TASK
    not_later = steps[None, :] <= steps[:, None]
    to_task = (kinds == TokenKind.TASK)[None, :]
    to_past = (kinds == TokenKind.OBSERVATION)[None, :] & reads_observations[:, None] & not_later
    return to_task | to_past | torch.eye(len(kinds), dtype=torch.bool)


class TokenSequence:
    """A sequence in the making, group by group.

    Attributes:
        groups: What the mask has to know of each group.
        tokens: The tokens of each group, [B, count, D].
        valid: Which of them count, bool [B, count] each.
    """

    def __init__(self) -> None:
        self.groups: list[TokenGroup] = []
        self.tokens: list[Tensor] = []
        self.valid: list[Tensor] = []

    def add(
        self, kind: TokenKind, tokens: Tensor, valid: Tensor | None = None, step: int = 0
    ) -> None:
        """Append a group.

        Args:
            kind: What its tokens stand for.
            tokens: [B, count, D].
            valid: Which of them count, bool [B, count]; None for all.
            step: When they were observed, or read out.
        """
        if valid is None:
            valid = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        self.tokens.append(tokens)
        self.valid.append(valid)
        self.groups.append(TokenGroup(kind, tokens.shape[1], step))

    def join(self) -> tuple[Tensor, Tensor]:
        """Return all tokens [B, L, D] and who attends to whom, bool [B, 1, L, L]."""
        tokens, valid = torch.cat(self.tokens, dim=1), torch.cat(self.valid, dim=1)
        rules = block_causal_mask(self.groups).to(tokens.device)
        itself = torch.eye(len(rules), dtype=torch.bool, device=tokens.device)
        # A padded token attends to itself, for a softmax over nothing is not a number.
        return tokens, ((rules & valid[:, None, :]) | itself).unsqueeze(1)
