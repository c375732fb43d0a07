# SPDX-License-Identifier: MIT
"""Actions as words: a language model predicts the bins of a chunk token by token.

RT-2 (arXiv:2307.15818) and OpenVLA (arXiv:2406.09246) share this. The numbers of a chunk follow
each other step by step and dimension by dimension, and each token sees those before it. Only the
scores of action tokens count, in the loss as in decoding: the model need not learn that no other
word may follow, and can never say one. The lowest bin has the last id, as in OpenVLA.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError
from vla_core.models.action_heads.discrete import ActionTokenHead
from vla_core.models.vlm.base import AbstractVLM
from vla_core.models.vlm.prefix import VLMPrefix
from vla_core.models.vlm.sampling import choose_tokens


class ActionTokenDecoder(nn.Module):
    """Continues what a VLM has read by the tokens of an action chunk.

    Args:
        vlm: The language model whose vocabulary the tokens are from; it is not kept.
        head: Translates bins and actions into each other.

    Raises:
        ConfigError: If the model has no tokens, or not enough, to stand for the bins.
    """

    def __init__(self, vlm: AbstractVLM, head: ActionTokenHead) -> None:
        super().__init__()
        self.head = head
        self.token_ids: Tensor
        token_ids = vlm.action_token_ids(head.bins.num_bins).flip(0)
        self.register_buffer("token_ids", token_ids, persistent=False)

    def teach(
        self,
        vlm: AbstractVLM,
        prefix: VLMPrefix,
        actions: Tensor,
        action_is_pad: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score every token given the true ones before it, all in one pass.

        Args:
            vlm: The language model.
            prefix: What it has read.
            actions: Normalised actions, [B, K, A], or [B, A] if K is 1.
            action_is_pad: True where a step is padding; its content is not shown, bool [B, K].

        Returns:
            `logits` over the bins, [B, K * A, num_bins], and `features`, the hidden state [B, D]
            that predicts the first token.

        Raises:
            ShapeError: If the actions or their padding do not fit.
        """
        chunk = self.head.as_chunk(actions, len(prefix.mask))
        valid = self.head.as_validity(action_is_pad, chunk)
        bins = self.head.bins.quantize(chunk).masked_fill(~valid, 0)
        hidden = vlm.predict_hidden(prefix, self.token_ids[bins.flatten(1)])
        return {"features": hidden[:, 0], "logits": self._scores(vlm, hidden)}

    @torch.no_grad()
    def decode(
        self,
        vlm: AbstractVLM,
        prefix: VLMPrefix,
        temperature: float = 0.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Choose token after token, each given those chosen before.

        Args:
            vlm: The language model.
            prefix: What it has read.
            temperature: 0 takes the likeliest bin; 1 samples as the scores say.
            top_k: Sample among the k likeliest bins only.
            generator: Where sampling draws from; None for the global one.

        Returns:
            `actions`, normalised, float32 [B, K, A] or [B, A] if K is 1; and what `teach` returns.

        Raises:
            ConfigError: If temperature or top_k is out of range.
        """
        length = self.head.chunk_size * self.head.action_dim
        step = vlm.begin(prefix)
        features = step.hidden[:, -1]
        logits: list[Tensor] = []
        bins: list[Tensor] = []
        while True:
            logits.append(self._scores(vlm, step.hidden[:, -1:])[:, 0])
            bins.append(choose_tokens(logits[-1], temperature, top_k, generator=generator))
            if len(bins) == length:
                break
            chosen = self.token_ids[bins[-1]].unsqueeze(1)
            step = vlm.extend(vlm.embed_tokens(chosen), step.prefix)
        chunk = torch.stack(bins, dim=1).unflatten(1, (self.head.chunk_size, -1))
        actions = self.head.from_chunk(self.head.bins.dequantize(chunk))
        return {"features": features, "logits": torch.stack(logits, dim=1), "actions": actions}

    def _scores(self, vlm: AbstractVLM, hidden: Tensor) -> Tensor:
        return vlm.logits(hidden)[..., self.token_ids]


def check_trainable(model: nn.Module) -> None:
    """Refuse to train a policy that is the VLM and nothing else while the VLM is frozen.

    Raises:
        ConfigError: If the model is in training mode and no parameter is trainable.
    """
    trained = model.training and torch.is_grad_enabled()
    if trained and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            f"{type(model).__name__} has nothing to train: its vlm is frozen, and it has no "
            "weights beside it; call unfreeze_backbone(), or build it with fine_tune_vlm=True or "
            "a state_dim."
        )
