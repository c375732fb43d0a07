# SPDX-License-Identifier: MIT
"""Actions by a diffusion transformer that cross-attends to tokens (GR00T N1, arXiv:2503.14734).

- Its tokens are the state, some learned ones (GR00T's "future tokens") and the noised actions.
- Blocks take turns: cross-attention to what the VLM read, then self-attention.
- Time scales and shifts what enters each attention (AdaLN, Peebles and Xie, 2023,
  arXiv:2212.09748) and enters the action tokens.
- Any `Process` may stand behind it: flow matching, as published, or diffusion.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, silu

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads.base import AbstractActionHead, masked_mean
from vla_core.models.action_heads.committed import CommittedActions
from vla_core.models.action_heads.denoiser import TIME_DIM
from vla_core.models.action_heads.diffusion_schedule import draw_noise
from vla_core.models.action_heads.process import FlowProcess, make_process
from vla_core.models.layers.attention import MultiHeadAttention
from vla_core.models.layers.film import modulate
from vla_core.models.layers.positional import sinusoidal_embedding


class DiTActionHead(AbstractActionHead):
    """Carries noise to a chunk of actions, given tokens.

    Args:
        feature_dim: Width of the tokens that are attended to.
        action_dim: Width of one action.
        chunk_size: Actions predicted at once.
        hidden_dim: Width of the transformer and of the state token; even.
        process: `flow` as GR00T does it, `ddpm` or `ddim`.
        diffusion_steps: Timesteps of a diffusion.
        prediction: What a diffusion predicts, the noise (`epsilon`) or the `sample`.
        inference_steps: Steps of the sampler; None for 4 with flow, all with DDPM, 10 with DDIM.
        clip_sample: Largest magnitude of a normalised action; None for no limit.
        num_blocks: Blocks, cross- and self-attention by turns.
        num_heads: Attention heads; must divide `hidden_dim`.
        num_future_tokens: Learned tokens beside state and actions.
        dropout: Probability of dropping an attention weight or a hidden unit in training.

    Raises:
        ConfigError: If the sizes do not fit together or a choice is not possible.
    """

    inpaints = True

    def __init__(
        self,
        feature_dim: int,
        action_dim: int,
        chunk_size: int = 1,
        hidden_dim: int = 512,
        process: str = "flow",
        diffusion_steps: int = 100,
        prediction: str = "epsilon",
        inference_steps: int | None = None,
        clip_sample: float | None = None,
        num_blocks: int = 4,
        num_heads: int = 8,
        num_future_tokens: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(feature_dim, action_dim, chunk_size)
        if num_blocks < 1:
            raise ConfigError(f"num_blocks must be at least 1, got {num_blocks}.")
        self.process = make_process(
            process, diffusion_steps, prediction, inference_steps, clip_sample
        )
        self.time_projection = nn.Sequential(
            nn.Linear(TIME_DIM, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, hidden_dim)
        )
        self.action_in = nn.Linear(action_dim, hidden_dim)
        self.action_time = nn.Sequential(
            nn.Linear(2 * hidden_dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, hidden_dim)
        )
        self.future_tokens = nn.Parameter(torch.randn(num_future_tokens, hidden_dim) * 0.02)
        self.blocks = nn.ModuleList(
            _DiTBlock(hidden_dim, num_heads, None if index % 2 else feature_dim, dropout)
            for index in range(num_blocks)
        )
        self.norm = nn.LayerNorm(hidden_dim, elementwise_affine=False)
        self.out_modulation = nn.Linear(hidden_dim, 2 * hidden_dim)
        self.action_out = nn.Linear(hidden_dim, action_dim)
        # Attention starts unmodulated and the first prediction is zero.
        for layer in (self.out_modulation, self.action_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self._places: Tensor
        places = sinusoidal_embedding(torch.arange(chunk_size), hidden_dim)
        self.register_buffer("_places", places, persistent=False)

    def compute_loss(
        self,
        features: Tensor,
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
        state: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compare the prediction at a random time with the process's target.

        Padded steps are neither targets nor seen by the other steps: their content changes
        nothing.

        Args:
            features: What to attend to, [B, L, feature_dim], or one token, [B, feature_dim].
            actions: Normalised actions, [B, K, A], or [B, A] if K is 1.
            action_is_pad: True where a step is padding, bool [B, K].
            generator: Source of times and noise; None for the global one.
            mask: True where a token is valid, bool [B, L]; None if all are.
            state: State token, [B, hidden_dim]; None for none.

        Returns:
            `loss` and its one component, `flow_loss` or `diffusion_loss`, scalars.

        Raises:
            ShapeError: If the actions or their padding do not fit.
        """
        chunk = self.as_chunk(actions, len(features)).float()
        valid = self.as_validity(action_is_pad, chunk)
        chunk = torch.where(valid, chunk, chunk.new_zeros(()))
        corrupted = self.process.corrupt(chunk, generator)
        predicted = self._predict(
            corrupted.x, corrupted.times, features, mask, state, valid.squeeze(-1)
        )
        loss = masked_mean(mse_loss(predicted, corrupted.target, reduction="none"), valid)
        name = "flow_loss" if isinstance(self.process, FlowProcess) else "diffusion_loss"
        return {"loss": loss, name: loss}

    @torch.no_grad()
    def predict_action(
        self,
        features: Tensor,
        generator: torch.Generator | None = None,
        inference_steps: int | None = None,
        noise: Tensor | None = None,
        mask: Tensor | None = None,
        state: Tensor | None = None,
        committed: CommittedActions | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Sample actions.

        Args:
            features: What to attend to, [B, L, feature_dim], or one token, [B, feature_dim].
            generator: Source of all noise; None for the global one.
            inference_steps: Steps of the process; None for its own.
            noise: Noise to start from, [B, K, A]; None to draw it.
            mask: True where a token is valid, bool [B, L]; None if all are.
            state: State token, [B, hidden_dim]; None for none.
            committed: Steps that are known already; None for none.
            **kwargs: Refused.

        Returns:
            Normalised actions, [B, K, A], or [B, A] if K is 1.

        Raises:
            ConfigError: If the number of steps is not possible.
            ShapeError: If the noise has another shape.
        """
        if kwargs:
            raise TypeError(f"predict_action has no keywords {sorted(kwargs)}.")
        shape = (len(features), self.chunk_size, self.action_dim)
        if noise is None:
            noise = draw_noise(features.new_empty(shape, dtype=torch.float32), generator)
        elif noise.shape != shape:
            raise ShapeError(f"noise must be {list(shape)}, got {list(noise.shape)}.")

        def predict(x: Tensor, times: Tensor) -> Tensor:
            return self._predict(x, times, features, mask, state)

        chunk = self.process.sample(predict, noise, inference_steps, generator, committed)
        return self.from_chunk(chunk)

    def _predict(
        self,
        x: Tensor,
        times: Tensor,
        features: Tensor,
        mask: Tensor | None,
        state: Tensor | None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Return the prediction at noised actions, float32 [B, K, A]."""
        if features.dim() == 2:
            features = features.unsqueeze(1)
        time = self.time_projection(times.to(self.action_in.weight.dtype))  # [B, H]
        actions = self.action_in(x.to(time.dtype)) + self._places.to(time.dtype)
        actions = self.action_time(
            torch.cat([actions, time.unsqueeze(1).expand_as(actions)], dim=-1)
        )
        own = self.future_tokens.to(actions.dtype).expand(len(x), -1, -1)
        if state is not None:
            own = torch.cat([state.unsqueeze(1).to(actions.dtype), own], dim=1)
        tokens = torch.cat([own, actions], dim=1)
        token_mask = None
        if valid is not None:
            token_mask = torch.cat([valid.new_ones(own.shape[:2]), valid], dim=1)
        for block in self.blocks:
            tokens = block(tokens, time, features, mask, token_mask)
        tokens = modulate(self.norm(tokens), self.out_modulation(silu(time)).unsqueeze(1))
        return self.action_out(tokens[:, own.shape[1] :]).float()


class _DiTBlock(nn.Module):
    """AdaLN and attention, then an MLP; cross-attention if there is a `context_dim`."""

    def __init__(self, dim: int, num_heads: int, context_dim: int | None, dropout: float) -> None:
        super().__init__()
        self.is_cross = context_dim is not None
        self.attention_norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation = nn.Linear(dim, 2 * dim)
        self.attention = MultiHeadAttention(dim, num_heads, context_dim, dropout)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        context: Tensor,
        context_mask: Tensor | None,
        token_mask: Tensor | None,
    ) -> Tensor:
        normed = modulate(self.attention_norm(x), self.modulation(silu(time)).unsqueeze(1))
        if self.is_cross:
            x = x + self.attention(normed, context, context_mask)
        else:
            x = x + self.attention(normed, normed, token_mask)
        return x + self.mlp(self.mlp_norm(x))
