# SPDX-License-Identifier: MIT
"""What Pi0 knows before it acts: images and instruction as the VLM reads them, then the state.

The state is tokens for the action expert, learned ones or a projection, or it is words of the
prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_core.models.action_heads.action_expert import ActionExpert, blockwise_mask
from vla_core.models.encoders.state_text_bins import state_prompts
from vla_core.models.encoders.vq_state import VQStateTokenizer
from vla_core.models.frameworks.base import AbstractVLA
from vla_core.models.frameworks.observations import (
    check_images,
    check_proprioception,
    check_vlm,
)
from vla_core.models.keywords import check_choice, check_probability
from vla_core.models.vlm.base import AbstractVLM, as_text_list
from vla_core.models.vlm.prefix import KeyValue, VLMPrefix

STATE_MODES = ("vq", "continuous", "text_bins")
VQ_FIGURES = ("codebook_perplexity", "codebook_used", "codebook_revived")
VQ_LOSSES = ("vq_loss", "reconstruction_loss", "codebook_loss", "commitment_loss")


@dataclass(frozen=True)
class Pi0Context:
    """What the action tokens attend to: the VLM's tokens, then the state's.

    Attributes:
        key_values: Keys and values of each layer, each [B, num_kv_heads, L, head_dim].
        mask: True where a token is valid, bool [B, L].
        next_position: Position of the first action, int64 [B, 1].
    """

    key_values: tuple[KeyValue, ...]
    mask: Tensor
    next_position: Tensor

    def to_outputs(self) -> dict[str, Tensor]:
        """Return the context as named tensors; those of all layers are stacked."""
        keys, values = zip(*self.key_values, strict=True)
        return {
            "context_keys": torch.stack(keys),
            "context_values": torch.stack(values),
            "context_mask": self.mask,
            "next_position": self.next_position,
        }

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, Tensor]) -> Pi0Context:
        """Undo `to_outputs`."""
        layers = zip(outputs["context_keys"], outputs["context_values"], strict=True)
        return cls(tuple(layers), outputs["context_mask"], outputs["next_position"])


class Pi0Reader(AbstractVLA):
    """Reads images, instruction and state into the context that actions attend to.

    Args:
        vlm: The backbone; it must be able to `prefill`.
        state_dim: Width of the state.
        hidden_dim: Width of the action expert.
        state_mode: One of `STATE_MODES`.
        num_cameras: Cameras of the images; None for any number.
        num_state_tokens: Size of the codebook, with `vq`.
        tokens_per_state: State tokens, with `vq`.
        commitment_weight: Weight of the commitment loss within the VQ loss.
        num_bins: Bins of each number, with `text_bins`.
        state_dropout: Probability, in training, that a row's state is hidden.
        mlp_ratio: Hidden width of the expert's MLPs over `hidden_dim`.
        modulates: Whether the time modulates every layer of the expert.

    Raises:
        ConfigError: If a setting is not possible or the VLM cannot be continued.
    """

    def __init__(
        self,
        vlm: AbstractVLM,
        *,
        state_dim: int,
        hidden_dim: int,
        state_mode: str,
        num_cameras: int | None,
        num_state_tokens: int,
        tokens_per_state: int,
        commitment_weight: float,
        num_bins: int,
        state_dropout: float,
        mlp_ratio: float,
        modulates: bool,
    ) -> None:
        super().__init__()
        check_choice("state_mode", state_mode, STATE_MODES)
        check_probability("state_dropout", state_dropout)
        self.state_dim = state_dim
        self.hidden_dim = hidden_dim
        self.state_mode = state_mode
        self.num_cameras = num_cameras
        self.commitment_weight = commitment_weight
        self.num_bins = num_bins
        self.state_dropout = state_dropout
        self.modulates = modulates
        self.vlm = check_vlm(vlm)
        self.expert = ActionExpert(
            vlm.attention_layout,
            hidden_dim,
            mlp_dim=int(mlp_ratio * hidden_dim),
            condition_dim=hidden_dim if modulates else None,
        )
        if state_mode == "vq":
            self.state_tokenizer = VQStateTokenizer(
                state_dim, hidden_dim, num_state_tokens, tokens_per_state
            )
            self.missing_state = nn.Parameter(torch.randn(tokens_per_state, hidden_dim) * 0.02)
        elif state_mode == "continuous":
            self.state_projection = nn.Linear(state_dim, hidden_dim)
            self.missing_state = nn.Parameter(torch.randn(1, hidden_dim) * 0.02)

    def encode_prefix(
        self,
        images: Tensor,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
    ) -> VLMPrefix:
        """Run the VLM over images and prompt, once for all integration steps.

        Args:
            images: As in `forward`.
            text: As in `forward`.
            proprioception: With `text_bins` a part of the prompt; else it is not read.

        Raises:
            ShapeError: If a tensor has another shape than the model was built for.
        """
        images = check_images(images, self.num_cameras)
        texts = as_text_list(text, len(images))
        if self.state_mode == "text_bins":
            texts = self._prompts(texts, proprioception)
        return self.vlm.prefill(images, texts)

    def _prompts(self, texts: list[str], proprioception: Tensor | None) -> list[str]:
        bare = state_prompts(texts, None)
        if proprioception is None:
            return bare
        state = check_proprioception(proprioception, len(texts), self.state_dim)
        prompts = state_prompts(texts, state, self.num_bins)
        if not self.training or not self.state_dropout:
            return prompts
        hidden = (torch.rand(len(texts)) < self.state_dropout).tolist()
        return [bare[row] if hidden[row] else prompts[row] for row in range(len(texts))]

    def _read_state(
        self,
        prefix: VLMPrefix,
        proprioception: Tensor | None,
        generator: torch.Generator | None,
    ) -> tuple[Pi0Context, dict[str, Tensor]]:
        """Put the state tokens after the prefix; return the context and what is known of it."""
        context = Pi0Context(prefix.key_values, prefix.mask, prefix.next_positions(1))
        seen = _mean_of_valid(prefix.features, prefix.mask).to(self._dtype)
        if self.state_mode == "text_bins":
            return context, {"features": seen}
        batch = len(prefix.mask)
        tokens = self.missing_state.expand(batch, -1, -1)
        losses: dict[str, Tensor] = {}
        if proprioception is not None:
            state = check_proprioception(proprioception, batch, self.state_dim)
            state = state.to(self._dtype)
            known, losses = self._tokenize(state, generator)
            hidden = torch.zeros(batch, 1, 1, dtype=torch.bool, device=known.device)
            if self.training:
                hidden = torch.rand(hidden.shape, device=known.device) < self.state_dropout
            # Also without state dropout: every parameter then gets a gradient in every step,
            # which distributed training asks for.
            tokens = torch.where(hidden, tokens.to(known.dtype), known)
        elif self.state_mode == "vq":
            losses = dict.fromkeys(VQ_LOSSES, tokens.new_zeros(()))
        valid = prefix.mask.new_ones(tokens.shape[:2])
        states, key_values = self._run_expert(tokens, valid, context)
        context = Pi0Context(
            key_values,
            torch.cat([context.mask, valid], dim=1),
            context.next_position + tokens.shape[1],
        )
        features = torch.cat([seen, states.mean(1)], dim=-1)
        return context, {"features": features, **losses}

    def _tokenize(
        self, state: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.state_mode == "continuous":
            return self.state_projection(state).unsqueeze(1), {}
        quantized = self.state_tokenizer(state, generator)
        commitment = self.commitment_weight * quantized.commitment_loss
        return quantized.tokens, {
            "vq_loss": quantized.reconstruction_loss + quantized.codebook_loss + commitment,
            "reconstruction_loss": quantized.reconstruction_loss,
            "codebook_loss": quantized.codebook_loss,
            "commitment_loss": commitment,
            "codebook_perplexity": quantized.perplexity,
            "codebook_used": self.state_tokenizer.used_share(),
            "codebook_revived": quantized.revived,
        }

    def _run_expert(
        self,
        tokens: Tensor,
        valid: Tensor,
        context: Pi0Context,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        """Run the tokens of the next block, which come after all of the context."""
        length, steps = context.mask.shape[1], torch.arange(tokens.shape[1], device=tokens.device)
        blocks = torch.cat([steps.new_zeros(length), torch.ones_like(steps)])
        mask = blockwise_mask(blocks[length:], blocks, torch.cat([context.mask, valid], dim=1))
        positions = context.next_position + steps
        return self.expert(tokens, positions, mask, context.key_values, condition)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.expert.parameters()).dtype


def _mean_of_valid(features: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(features.dtype)
    return (features * weights).sum(1) / weights.sum(1).clamp(min=1.0)
