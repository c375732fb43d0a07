# SPDX-License-Identifier: MIT
"""OpenVLA: a fine-tuned VLM whose hidden states at action tokens become actions.

What the action tokens are is a choice, `action_token_pattern`:

- `last`, `first` and `mean` read tokens that the VLM has anyway, the
  last ones, the first ones of the instruction, or all of them on average. An MLP regresses the
  actions. Where a VLM reads each camera in a sequence of its own, the cameras are averaged.
- `special` puts learned tokens after images and text, which see all of them, and each other.
- `oft` is parallel decoding as in OpenVLA-OFT (Kim et al., 2025, arXiv:2502.19645): an empty token
  for each number of the chunk, all seeing each other; an MLP regresses each step from its tokens.
- `autoregressive` is the published OpenVLA (Kim et al., 2024, arXiv:2406.09246): bins of each
  dimension, each a word of the language model, decoded one after the other as in RT-2.

The presets: `seed` has the defaults, `reference` the published OpenVLA, `oft` its successor with
chunks of eight. OpenVLA's code takes 256 numbers for the edges of its bins, which makes 255 of
them; so does `reference`, whose tokens mean what the published weights mean by them. They differ
from the published code in this: the loss counts action tokens only, a prompt does not see the
action tokens of `oft` (so that it can be computed once), a state is one token after the prompt,
and a learned one stands for a missing state.

With a VLM that reads causally, `first` has seen no more of the instruction than its beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError
from vla_core.models.action_heads.base import AbstractActionHead
from vla_core.models.action_heads.discrete import ActionTokenHead, Bounds
from vla_core.models.action_heads.mlp import MLPActionHead
from vla_core.models.frameworks.action_tokens import ActionTokenDecoder, check_trainable
from vla_core.models.frameworks.base import AbstractVLA
from vla_core.models.frameworks.observations import (
    check_images,
    check_unread_state,
    check_vlm,
    padding_from,
    refuse_sampling,
)
from vla_core.models.frameworks.prompts import (
    OPENVLA_PROMPT,
    check_prompt_template,
    fill_prompts,
)
from vla_core.models.frameworks.registry import register_framework
from vla_core.models.frameworks.state_features import StateFeatures
from vla_core.models.frameworks.token_selection import SELECTIONS, select_tokens
from vla_core.models.keywords import check_choice
from vla_core.models.vlm.base import AbstractVLM
from vla_core.models.vlm.prefix import VLMPrefix

ACTION_TOKEN_PATTERNS = (*SELECTIONS, "special", "oft", "autoregressive")
_COUNTED_PATTERNS = ("first", "last", "special")


@register_framework("openvla")
class OpenVLA(AbstractVLA):
    """Turns the hidden states of a VLM at action tokens into actions.

    Args:
        vlm: The backbone; `special`, `oft` and `autoregressive` need one that can be continued.
        action_dim: Width of one action.
        hidden_dim: Width of the MLP head.
        num_action_tokens: Tokens that the head reads, with the patterns `first`, `last` and
            `special`; the others have their own number.
        fine_tune_vlm: Train the VLM.
        action_token_pattern: Which tokens are action tokens, one of `ACTION_TOKEN_PATTERNS`.
        state_dim: Width of the state; None to take no notice of proprioception, as OpenVLA does.
        chunk_size: Actions predicted at once.
        num_cameras: Cameras of the images; None for any number.
        num_blocks: Residual blocks of the MLP head.
        loss: Loss of the MLP head, `l1`, `mse` or `huber`.
        dropout: Dropout probability of the MLP head.
        num_bins: Bins of each dimension with the pattern `autoregressive`.
        action_bounds: Their lower and upper bound of each dimension; None for -1 and 1.
        prompt_template: What the VLM reads, with `{}` where the instruction goes.

    Raises:
        ConfigError: If a setting is not possible, or the VLM cannot do what the pattern needs.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "seed": {},
        "reference": {
            "action_token_pattern": "autoregressive",
            "num_bins": 255,
            "prompt_template": OPENVLA_PROMPT,
        },
        "oft": {
            "action_token_pattern": "oft",
            "hidden_dim": 4096,
            "chunk_size": 8,
            "prompt_template": OPENVLA_PROMPT,
        },
    }

    def __init__(
        self,
        vlm: AbstractVLM,
        action_dim: int = 7,
        hidden_dim: int = 512,
        num_action_tokens: int = 1,
        fine_tune_vlm: bool = True,
        action_token_pattern: str = "last",
        state_dim: int | None = None,
        chunk_size: int = 1,
        num_cameras: int | None = None,
        num_blocks: int = 2,
        loss: str = "l1",
        dropout: float = 0.0,
        num_bins: int = 256,
        action_bounds: Bounds | None = None,
        prompt_template: str = "{}",
    ) -> None:
        super().__init__()
        check_choice("action_token_pattern", action_token_pattern, ACTION_TOKEN_PATTERNS)
        _check_number(num_action_tokens, action_token_pattern)
        self.vlm = check_vlm(vlm)
        self.pattern = action_token_pattern
        self.num_action_tokens = num_action_tokens
        self.chunk_size = chunk_size
        self.action_dim = action_dim
        self.num_cameras = num_cameras
        self.prompt_template = check_prompt_template(prompt_template)
        self._config = {
            "framework": self.framework,
            "action_dim": action_dim,
            "hidden_dim": hidden_dim,
            "num_action_tokens": num_action_tokens,
            "action_token_pattern": action_token_pattern,
            "state_dim": state_dim,
            "chunk_size": chunk_size,
            "num_cameras": num_cameras,
            "num_blocks": num_blocks,
            "loss": loss,
            "dropout": dropout,
            "num_bins": num_bins,
            "action_bounds": None if action_bounds is None else [list(b) for b in action_bounds],
            "prompt_template": prompt_template,
        }
        width = vlm.hidden_size
        self.state_features = None if state_dim is None else StateFeatures(state_dim, width)
        self.action_tokens: nn.Parameter | None = None
        self.decoder: ActionTokenDecoder | None = None
        self.action_head: AbstractActionHead
        if action_token_pattern == "autoregressive":
            head = ActionTokenHead(action_dim, chunk_size, action_bounds, num_bins)
            self.decoder = ActionTokenDecoder(vlm, head)
            self.action_head = head
        else:
            per_step = action_token_pattern == "oft"
            tokens_read = action_dim if per_step else num_action_tokens
            if action_token_pattern in SELECTIONS and state_dim is not None:
                tokens_read += 1
            if action_token_pattern == "special":
                self.action_tokens = nn.Parameter(torch.randn(num_action_tokens, width) * 0.02)
            self.action_head = MLPActionHead(
                tokens_read * width,
                action_dim,
                chunk_size,
                hidden_dim=hidden_dim,
                num_blocks=num_blocks,
                loss=loss,
                per_step=per_step,
                dropout=dropout,
            )
        if not fine_tune_vlm:
            self.freeze_backbone()

    def forward(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        actions: Tensor | None = None,
        *,
        action_is_pad: Tensor | None = None,
        action_mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **sampling: Any,
    ) -> dict[str, Tensor]:
        """Compute the loss if actions are given; predict actions if not.

        Args:
            images: Camera frames in [0, 1], [B, N, C, H, W], or [B, C, H, W] from one camera.
            text: One instruction for the whole batch, or one per row; None for no instruction.
            proprioception: Normalised robot state, [B, S]; None if it is not known.
            actions: Normalised true actions, [B, K, A], or [B, A] if `chunk_size` is 1.
            action_is_pad: True where a step of the actions is padding, bool [B, K].
            action_mask: The opposite of `action_is_pad`, which may be given in its stead.
            generator: Where the sampling of action tokens draws from; None for the global one.
            **sampling: With the pattern `autoregressive`, `temperature` (0, greedy, by default)
                and `top_k`; refused with the others.

        Returns:
            `features` of the action tokens, [B, F], [B, K, F] with `oft`; with `autoregressive`
            those that predict the first token, and `logits` [B, K * A, num_bins]. With actions
            also `loss` and its component by name; without also `actions`, without gradient,
            [B, A] or [B, K, A].

        Raises:
            ShapeError: If a tensor has another shape than the model was built for.
            ConfigError: If it is to be trained and nothing is trainable.
            TypeError: If a keyword of a sampler is given beside actions.
        """
        if actions is not None:
            refuse_sampling(sampling)
            check_trainable(self)
        images = check_images(images, self.num_cameras)
        if self.state_features is None:
            check_unread_state(proprioception, len(images))
        prompts = fill_prompts(self.prompt_template, text, len(images))
        padding = padding_from(action_is_pad, action_mask)
        if self.decoder is not None:
            prefix = self._read(images, prompts, proprioception)
            if actions is None:
                return self.decoder.decode(self.vlm, prefix, generator=generator, **sampling)
            outputs = self.decoder.teach(self.vlm, prefix, actions, padding)
        else:
            features = self._action_features(images, prompts, proprioception)
            features = features.to(next(self.action_head.parameters()).dtype)
            outputs = {"features": features}
            if actions is None:
                predicted = self.action_head.predict_action(features, generator, **sampling)
                return {**outputs, "actions": predicted}
        return {**outputs, **self.compute_loss(outputs, actions, padding, generator)}

    def compute_loss(
        self,
        outputs: Mapping[str, Tensor],
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compare what `outputs` say with the true actions.

        Returns:
            `loss` and its one component: `l1_loss`, or what the loss of the MLP head is called,
            from `outputs['features']`; with the pattern `autoregressive`, `token_loss` from
            `outputs['logits']`, and beside it `token_accuracy` and `clipped_actions`.
        """
        inputs = outputs["features" if self.decoder is None else "logits"]
        return self.action_head.compute_loss(inputs, actions, action_is_pad, generator)

    @torch.no_grad()
    def predict_action(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Predict normalised actions, [B, A] if `chunk_size` is 1, else [B, K, A].

        Args:
            images: As in `forward`.
            text: As in `forward`.
            proprioception: As in `forward`.
            generator: As in `forward`.
            **kwargs: `temperature` and `top_k`, as in `forward`; others are refused.
        """
        return self(images, text, proprioception, generator=generator, **kwargs)["actions"]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `framework`."""
        trained = not self.vlm.is_frozen
        return {**self._config, "fine_tune_vlm": trained, "vlm": self.vlm.get_config()}

    def _action_features(
        self, images: Tensor, prompts: list[str], proprioception: Tensor | None
    ) -> Tensor:
        """Return the hidden states of the action tokens, [B, F] or, with `oft`, [B, K, F]."""
        if self.pattern in SELECTIONS:
            output = self.vlm.encode(images, prompts)
            tokens = select_tokens(output, self.pattern, self.num_action_tokens)
            if self.state_features is not None:
                state = self.state_features(proprioception, len(images)).to(tokens.dtype)
                tokens = torch.cat([tokens, state.unsqueeze(1)], dim=1)
            return tokens.flatten(1)
        prefix = self._read(images, prompts, proprioception)
        if self.action_tokens is not None:
            tokens = self.action_tokens.to(prefix.features.dtype).expand(len(images), -1, -1)
            return self.vlm.extend(tokens, prefix, causal=False).hidden.flatten(1)
        length = self.chunk_size * self.action_dim
        tokens = prefix.features.new_zeros(len(images), length, self.vlm.hidden_size)
        hidden = self.vlm.extend(tokens, prefix, causal=False).hidden
        return hidden.view(len(images), self.chunk_size, -1)

    def _read(
        self, images: Tensor, prompts: list[str], proprioception: Tensor | None
    ) -> VLMPrefix:
        """Let the VLM read images, instruction and state."""
        prefix = self.vlm.prefill(images, prompts)
        if self.state_features is None:
            return prefix
        token = self.state_features(proprioception, len(images)).to(prefix.features.dtype)
        return self.vlm.extend(token.unsqueeze(1), prefix).prefix


def _check_number(num_action_tokens: int, pattern: str) -> None:
    if num_action_tokens < 1:
        raise ConfigError(f"num_action_tokens must be at least 1, got {num_action_tokens}.")
    if num_action_tokens > 1 and pattern not in _COUNTED_PATTERNS:
        raise ConfigError(
            f"num_action_tokens is {num_action_tokens}, but action_token_pattern {pattern!r} has "
            f"its own number; leave it at 1 or choose from {', '.join(_COUNTED_PATTERNS)}."
        )
