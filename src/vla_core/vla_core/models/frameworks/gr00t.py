# SPDX-License-Identifier: MIT
"""GR00T: a frozen VLM, FiLM-conditioned state and a diffusion head.

- The VLM gives tokens of every camera and of the instruction; learned queries pool them.
- The state is encoded by an MLP and modulated by the context (FiLM).
- DDPM denoises a chunk of actions; DDIM with ten steps is the faster sampler.

These are the defaults (preset `seed`). NVIDIA's published GR00T N1 (arXiv:2503.14734) is
`from_preset("reference")`, or any part of it by keyword:

- `conditioning='adaln_cross'`: a diffusion transformer cross-attends to the VLM tokens and is
  modulated by time only (AdaLN); the state is one of its tokens.
- `process='flow'`: it matches a flow in four steps.

The published one is made of N1.5's sizes. It has a state and an action encoder for each robot it
was trained on, and this one has one of each; which VLM stands before it is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError
from vla_core.models.action_heads.base import AbstractActionHead
from vla_core.models.action_heads.committed import CommittedActions
from vla_core.models.action_heads.ddpm import DDPMActionHead
from vla_core.models.action_heads.dit import DiTActionHead
from vla_core.models.action_heads.flow_matching import FlowMatchingActionHead
from vla_core.models.action_heads.process import PROCESSES
from vla_core.models.encoders.context import ContextPooling
from vla_core.models.encoders.mlp_state import MLPStateEncoder
from vla_core.models.encoders.token_memory import TokenMemory
from vla_core.models.frameworks.base import AbstractVLA
from vla_core.models.frameworks.observations import (
    check_proprioception,
    check_vlm,
    padding_from,
    refuse_sampling,
)
from vla_core.models.frameworks.registry import register_framework
from vla_core.models.frameworks.vlm_tokens import encode_observation, tokens_of
from vla_core.models.keywords import check_choice, check_probability, check_sizes
from vla_core.models.layers.film import FiLM
from vla_core.models.vlm.base import AbstractVLM, VLMOutput

CONDITIONINGS = ("film", "adaln_cross")
_POOLING_HEADS = 4
_FLOW_STEPS = 4


@register_framework("gr00t")
class GR00TVLA(AbstractVLA):
    """Diffuses actions from FiLM-conditioned state and pooled VLM features.

    Args:
        vlm: The backbone.
        action_dim: Width of one action.
        state_dim: Width of the state.
        hidden_dim: Width of context, state features and denoiser; a multiple of 8.
        num_cameras: Cameras of the images.
        diffusion_steps: Timesteps of the diffusion process.
        freeze_vlm: Keep the VLM as it is.
        chunk_size: Actions predicted at once.
        sampler: `ddpm` or `ddim`.
        inference_steps: Steps of the sampler; None for all of them with DDPM, 10 with DDIM.
        prediction: What the denoiser predicts, the noise (`epsilon`) or the `sample`.
        clip_sample: Largest magnitude of a normalised action; None for no limit.
        num_queries: Learned queries that read the VLM tokens; with `film`.
        num_blocks: Blocks of the denoiser: residual ones with `film`, of a transformer with
            `adaln_cross`.
        dropout: Dropout probability of all trained parts.
        state_dropout: Probability, in training, that a row's state is hidden from the policy and
            replaced by the embedding that stands for a missing state.
        conditioning: How actions depend on the observation: on one pooled vector that modulates
            the state and the denoiser (`film`), or by cross-attention to all VLM tokens
            (`adaln_cross`).
        process: `ddpm`, `ddim` or `flow`; None for the diffusion that `sampler` names. Flow
            matching takes 4 steps unless `inference_steps` is given.
        num_heads: Attention heads with `adaln_cross`; must divide `hidden_dim`.
        num_context_blocks: Self-attention blocks over the VLM tokens with `adaln_cross`.
        num_future_tokens: Learned tokens beside state and actions with `adaln_cross`.

    Raises:
        ConfigError: If a setting is not possible.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "seed": {},
        "reference": {
            "conditioning": "adaln_cross",
            "process": "flow",
            "hidden_dim": 1536,
            "chunk_size": 16,
            "inference_steps": 4,
            "clip_sample": None,
            "num_blocks": 16,
            "num_heads": 32,
            "num_context_blocks": 4,
            "num_future_tokens": 32,
        },
    }

    def __init__(
        self,
        vlm: AbstractVLM,
        action_dim: int = 7,
        state_dim: int = 14,
        hidden_dim: int = 512,
        num_cameras: int = 2,
        diffusion_steps: int = 100,
        freeze_vlm: bool = True,
        chunk_size: int = 1,
        sampler: str = "ddpm",
        inference_steps: int | None = None,
        prediction: str = "epsilon",
        clip_sample: float | None = 1.0,
        num_queries: int = 8,
        num_blocks: int = 3,
        dropout: float = 0.0,
        state_dropout: float = 0.0,
        conditioning: str = "film",
        process: str | None = None,
        num_heads: int = 8,
        num_context_blocks: int = 2,
        num_future_tokens: int = 32,
    ) -> None:
        super().__init__()
        check_choice("conditioning", conditioning, CONDITIONINGS)
        if process is not None:
            check_choice("process", process, PROCESSES)
        check_sizes(state_dim=state_dim, hidden_dim=hidden_dim, num_cameras=num_cameras)
        check_sizes(num_queries=num_queries, num_blocks=num_blocks)
        check_probability("state_dropout", state_dropout)
        if hidden_dim % (2 * _POOLING_HEADS):
            raise ConfigError(
                f"hidden_dim must be a multiple of {2 * _POOLING_HEADS}, got {hidden_dim}."
            )
        self._config: dict[str, Any] = {
            "framework": self.framework,
            "action_dim": action_dim,
            "state_dim": state_dim,
            "hidden_dim": hidden_dim,
            "num_cameras": num_cameras,
            "diffusion_steps": diffusion_steps,
            "chunk_size": chunk_size,
            "sampler": sampler,
            "inference_steps": inference_steps,
            "prediction": prediction,
            "clip_sample": clip_sample,
            "num_queries": num_queries,
            "num_blocks": num_blocks,
            "dropout": dropout,
            "state_dropout": state_dropout,
            "conditioning": conditioning,
            "process": process,
            "num_heads": num_heads,
            "num_context_blocks": num_context_blocks,
            "num_future_tokens": num_future_tokens,
        }
        self.num_cameras = num_cameras
        self.state_dim = state_dim
        self.state_dropout = state_dropout
        self.vlm = check_vlm(vlm)
        self.conditioning = conditioning
        if conditioning == "film":
            self._build_film(num_queries, dropout)
        else:
            self._build_adaln_cross(num_context_blocks, num_heads, dropout)
        self.action_head = self._build_head(process or sampler)
        if freeze_vlm:
            self.freeze_backbone()

    def forward(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        actions: Tensor | None = None,
        *,
        vlm_features: VLMOutput | None = None,
        action_is_pad: Tensor | None = None,
        action_mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **sampling: Any,
    ) -> dict[str, Tensor]:
        """Compute the loss if actions are given; predict actions if not.

        Args:
            images: Camera frames in [0, 1], [B, N, C, H, W], or [B, C, H, W] from one camera;
                None if `vlm_features` are given.
            text: One instruction for the whole batch, or one per row; None for no instruction.
            proprioception: Normalised robot state, [B, S]; None if it is not known.
            actions: Normalised true actions, [B, K, A], or [B, A] if `chunk_size` is 1.
            vlm_features: What `encode_vlm` returned for these images and text, to save the work.
            action_is_pad: True where a step of the actions is padding, bool [B, K].
            action_mask: The opposite of `action_is_pad`, which may be given in its stead.
            generator: Source of every random draw but dropout; None for the global one.
            **sampling: `inference_steps`, `noise` and `committed`, as in
                `DDPMActionHead.predict_action`.

        Returns:
            `features`, [B, hidden_dim] or, with `adaln_cross`, twice as wide and with the `tokens`
            [B, L, hidden_dim], their `token_mask` and the `state` [B, hidden_dim] that actions
            are made from; with actions also `loss` and its component, `diffusion_loss` or
            `flow_loss`; without actions also `actions`, sampled without gradients, [B, A] or
            [B, K, A].

        Raises:
            ShapeError: If a tensor has another shape than the model was built for.
            ConfigError: If both or none of `images` and `vlm_features` are given.
            TypeError: If a keyword of a sampler is given beside actions.
        """
        tokens = tokens_of(self.vlm, images, text, vlm_features, self.num_cameras)
        if self.conditioning == "film":
            outputs = self._condition_by_film(tokens, proprioception)
        else:
            outputs = self._condition_by_tokens(tokens, proprioception)
        if actions is None:
            outputs["actions"] = self.action_head.predict_action(
                **_head_inputs(outputs), generator=generator, **sampling
            )
            return outputs
        refuse_sampling(sampling)
        padding = padding_from(action_is_pad, action_mask)
        return {**outputs, **self.compute_loss(outputs, actions, padding, generator)}

    def encode_vlm(self, images: Tensor, text: str | Sequence[str] | None = None) -> VLMOutput:
        """Return the VLM's tokens, which a trainer may keep for as long as the VLM is frozen.

        Args:
            images: Camera frames in [0, 1], [B, N, C, H, W], or [B, C, H, W] from one camera.
            text: One instruction for the whole batch, or one per row; None for no instruction.

        Raises:
            ShapeError: If the images or the number of texts do not fit.
        """
        return encode_observation(self.vlm, images, text, self.num_cameras)

    def compute_loss(
        self,
        outputs: Mapping[str, Tensor],
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss of the true actions, given what `forward` found in the observation."""
        return self.action_head.compute_loss(
            **_head_inputs(outputs),
            actions=actions,
            action_is_pad=action_is_pad,
            generator=generator,
        )

    @torch.no_grad()
    def predict_action(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        inference_steps: int | None = None,
        noise: Tensor | None = None,
        committed: CommittedActions | None = None,
        vlm_features: VLMOutput | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Sample normalised actions; the same generator state gives the same actions.

        Dropout is active in training mode: call `eval()` first.

        Args:
            images: As in `forward`.
            text: As in `forward`.
            proprioception: As in `forward`.
            generator: Source of all noise; None for the global one.
            inference_steps: Steps of the sampler; None for those of the constructor.
            noise: Noise to start from, [B, K, A]; None to draw it.
            committed: Steps that are known already; None for none.
            vlm_features: As in `forward`.
            **kwargs: Refused.

        Returns:
            Normalised actions, [B, A] if `chunk_size` is 1, else [B, K, A].
        """
        outputs = self(
            images,
            text,
            proprioception,
            vlm_features=vlm_features,
            generator=generator,
            inference_steps=inference_steps,
            noise=noise,
            committed=committed,
            **kwargs,
        )
        return outputs["actions"]

    @property
    def inpaints(self) -> bool:
        """Whether `predict_action` takes `committed` steps and fits the others to them."""
        return self.action_head.inpaints

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `framework`."""
        frozen = self.vlm.is_frozen
        return {**self._config, "freeze_vlm": frozen, "vlm": self.vlm.get_config()}

    def _build_film(self, num_queries: int, dropout: float) -> None:
        hidden_dim: int = self._config["hidden_dim"]
        self.context_pooling = ContextPooling(
            self.vlm.hidden_size,
            hidden_dim,
            pooling_dim=hidden_dim // 2,
            num_queries=num_queries,
            num_heads=_POOLING_HEADS,
            num_cameras=self.num_cameras,
            dropout=dropout,
        )
        self.state_encoder = MLPStateEncoder(self.state_dim, hidden_dim, dropout=dropout)
        self.missing_state = nn.Parameter(torch.zeros(hidden_dim))
        self.film = FiLM(hidden_dim, hidden_dim)
        self.fusion = nn.Sequential(
            nn.Linear(2 * hidden_dim, hidden_dim),
            nn.LayerNorm(hidden_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
        )

    def _build_adaln_cross(self, num_blocks: int, num_heads: int, dropout: float) -> None:
        hidden_dim: int = self._config["hidden_dim"]
        self.token_memory = TokenMemory(
            self.vlm.hidden_size, hidden_dim, num_blocks, num_heads, self.num_cameras, dropout
        )
        self.state_encoder = MLPStateEncoder(self.state_dim, hidden_dim, dropout=dropout)
        self.missing_state = nn.Parameter(torch.zeros(hidden_dim))

    def _build_head(self, process: str) -> AbstractActionHead:
        config = self._config
        shape = {key: config[key] for key in ("action_dim", "chunk_size", "hidden_dim")}
        network = {key: config[key] for key in ("num_blocks", "dropout", "clip_sample")}
        steps = {"inference_steps": config["inference_steps"]}
        diffusion = {key: config[key] for key in ("diffusion_steps", "prediction")}
        width: int = config["hidden_dim"]
        if self.conditioning == "adaln_cross":
            tokens = {key: config[key] for key in ("num_heads", "num_future_tokens")}
            return DiTActionHead(
                width, process=process, **shape, **network, **steps, **diffusion, **tokens
            )
        if process != "flow":
            return DDPMActionHead(width, sampler=process, **shape, **network, **steps, **diffusion)
        if config["inference_steps"] is None:
            steps = {"inference_steps": _FLOW_STEPS}
        return FlowMatchingActionHead(width, convention="gr00t", **shape, **network, **steps)

    def _condition_by_film(
        self, tokens: VLMOutput, proprioception: Tensor | None
    ) -> dict[str, Tensor]:
        context = self.context_pooling(tokens)  # [B, H]
        state = self._encode_state(proprioception, context)  # [B, H]
        state = self.film(state, context)
        return {"features": self.fusion(torch.cat([state, context], dim=-1))}

    def _condition_by_tokens(
        self, tokens: VLMOutput, proprioception: Tensor | None
    ) -> dict[str, Tensor]:
        memory = self.token_memory(tokens)  # [B, L, H]
        weights = tokens.mask.unsqueeze(-1).to(memory.dtype)
        mean = (memory * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        state = self._encode_state(proprioception, mean)
        return {
            "features": torch.cat([mean, state], dim=-1),
            "tokens": memory,
            "token_mask": tokens.mask,
            "state": state,
        }

    def _encode_state(self, proprioception: Tensor | None, context: Tensor) -> Tensor:
        missing = self.missing_state.to(context.dtype).expand_as(context)
        if proprioception is None:
            return missing
        state = check_proprioception(proprioception, len(context), self.state_dim)
        encoded = self.state_encoder(state)
        if not self.training:
            return encoded
        # Also without state dropout: every parameter then gets a gradient in every step, which
        # distributed training asks for.
        hidden = torch.rand(len(context), 1, device=context.device) < self.state_dropout
        return torch.where(hidden, missing, encoded)


def _head_inputs(outputs: Mapping[str, Tensor]) -> dict[str, Any]:
    if "tokens" not in outputs:
        return {"features": outputs["features"]}
    return {
        "features": outputs["tokens"],
        "mask": outputs["token_mask"],
        "state": outputs["state"],
    }
