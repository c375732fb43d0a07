# SPDX-License-Identifier: MIT
"""Pi0: a VLM, state tokens and an action expert that matches a flow (arXiv:2410.24164).

- The sequence is [images and instruction | state | actions]. Attention is causal across blocks,
  so nothing before the actions depends on them, and bidirectional inside the blocks of state and
  actions. The first block is read as the VLM reads: bidirectionally by `paligemma`, as published,
  and by the encoder of `florence2`; causally by the others of transformers; camera by camera by
  `tiny`.
- The action expert is a second transformer beside the VLM: one layer for each of the VLM's, with
  weights of its own, in joint attention with the VLM's keys and values.
- What comes before the actions is computed once and its keys and values serve every integration
  step; the steps run the expert over the action tokens alone. Training takes one random time per
  row and never integrates.
- Padded actions are hidden from the attention as well as from the loss.

By default the state is tokenised by a VQ-VAE and the flow takes 50 steps (preset `seed`). The
published model has one continuous state token and 10 steps: `from_preset("reference")`. Its
successor pi0.5 (arXiv:2504.16054) writes the state into the prompt and lets
the time modulate every layer of the expert, there also its last norm: `from_preset("pi05")`. The
VLM may be any that can be continued after a prefix, not PaliGemma alone. Its last layer
contributes keys and values only: what it would compute after them is read by no one. With
`florence2` the layers are those of the decoder, and all contribute only the keys and values of
their cross-attention, projections of what the encoder has read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, silu

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads.base import as_chunk, as_validity, masked_mean
from vla_core.models.action_heads.committed import CommittedActions
from vla_core.models.action_heads.diffusion_schedule import draw_noise
from vla_core.models.action_heads.flow_path import FlowPath, embed_flow_times
from vla_core.models.frameworks.observations import padding_from, refuse_sampling
from vla_core.models.frameworks.pi0_context import (
    STATE_MODES,
    VQ_FIGURES,
    VQ_LOSSES,
    Pi0Context,
    Pi0Reader,
)
from vla_core.models.frameworks.registry import register_framework
from vla_core.models.keywords import check_choice, check_sizes
from vla_core.models.vlm.base import AbstractVLM
from vla_core.models.vlm.prefix import VLMPrefix

__all__ = ["STATE_MODES", "TIME_CONDITIONINGS", "Pi0Context", "Pi0VLA"]

TIME_CONDITIONINGS = ("token", "modulation")


@register_framework("pi0")
class Pi0VLA(Pi0Reader):
    """Carries noise to actions by an expert in joint attention with the VLM.

    Args:
        vlm: The backbone; it must be able to `prefill`.
        action_dim: Width of one action.
        state_dim: Width of the state.
        hidden_dim: Width of the action expert; even.
        num_state_tokens: Size of the codebook that state tokens are from, with `vq`.
        flow_steps: Euler steps of an inference.
        fine_tune_vlm: Train the VLM as well.
        state_mode: `vq` for learned discrete tokens, `continuous` for one projected token,
            `text_bins` for numbers in the prompt.
        chunk_size: Actions predicted at once.
        num_cameras: Cameras of the images; None for any number.
        tokens_per_state: State tokens with `vq`.
        commitment_weight: Weight of the commitment loss within the VQ loss.
        vq_weight: Weight of the VQ loss beside the flow loss.
        num_bins: Bins of each number with `text_bins`.
        mlp_ratio: Hidden width of the expert's MLPs over `hidden_dim`.
        state_dropout: Probability, in training, that a row's state is hidden from the policy.
        clip_sample: Largest magnitude of a predicted action; None for no limit.
        time_conditioning: `token` joins the time to each action token; `modulation` lets it
            modulate every layer of the expert, which needs `text_bins`.

    Raises:
        ConfigError: If a setting is not possible or the VLM cannot be continued.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "seed": {},
        "reference": {
            "hidden_dim": 1024,
            "flow_steps": 10,
            "state_mode": "continuous",
            "chunk_size": 50,
        },
        "pi05": {
            "hidden_dim": 1024,
            "flow_steps": 10,
            "state_mode": "text_bins",
            "time_conditioning": "modulation",
            "chunk_size": 50,
        },
    }

    def __init__(
        self,
        vlm: AbstractVLM,
        action_dim: int = 7,
        state_dim: int = 14,
        hidden_dim: int = 512,
        num_state_tokens: int = 1024,
        flow_steps: int = 50,
        fine_tune_vlm: bool = True,
        state_mode: str = "vq",
        chunk_size: int = 1,
        num_cameras: int | None = None,
        tokens_per_state: int = 4,
        commitment_weight: float = 0.25,
        vq_weight: float = 1.0,
        num_bins: int = 256,
        mlp_ratio: float = 4.0,
        state_dropout: float = 0.0,
        clip_sample: float | None = None,
        time_conditioning: str = "token",
    ) -> None:
        check_choice("time_conditioning", time_conditioning, TIME_CONDITIONINGS)
        if time_conditioning == "modulation" and state_mode != "text_bins":
            raise ConfigError(
                "time_conditioning 'modulation' needs state_mode 'text_bins', got "
                f"{state_mode!r}: state tokens are computed once, when there is no time yet."
            )
        check_sizes(
            action_dim=action_dim,
            state_dim=state_dim,
            chunk_size=chunk_size,
            hidden_dim=hidden_dim,
            num_cameras=1 if num_cameras is None else num_cameras,
        )
        if hidden_dim < 2 or hidden_dim % 2:
            raise ConfigError(f"hidden_dim must be even, got {hidden_dim}.")
        super().__init__(
            vlm,
            state_dim=state_dim,
            hidden_dim=hidden_dim,
            state_mode=state_mode,
            num_cameras=num_cameras,
            num_state_tokens=num_state_tokens,
            tokens_per_state=tokens_per_state,
            commitment_weight=commitment_weight,
            num_bins=num_bins,
            state_dropout=state_dropout,
            mlp_ratio=mlp_ratio,
            modulates=time_conditioning == "modulation",
        )
        self._config = {
            "framework": self.framework,
            "action_dim": action_dim,
            "state_dim": state_dim,
            "hidden_dim": hidden_dim,
            "num_state_tokens": num_state_tokens,
            "flow_steps": flow_steps,
            "state_mode": state_mode,
            "chunk_size": chunk_size,
            "num_cameras": num_cameras,
            "tokens_per_state": tokens_per_state,
            "commitment_weight": commitment_weight,
            "vq_weight": vq_weight,
            "num_bins": num_bins,
            "mlp_ratio": mlp_ratio,
            "state_dropout": state_dropout,
            "clip_sample": clip_sample,
            "time_conditioning": time_conditioning,
        }
        self.action_dim = action_dim
        self.flow_steps = flow_steps
        self.chunk_size = chunk_size
        self.vq_weight = vq_weight
        self.clip_sample = clip_sample
        self.path = FlowPath("pi0")
        self.path.times(flow_steps)

        self.action_in = nn.Linear(action_dim, hidden_dim)
        time_width = hidden_dim if self.modulates else 2 * hidden_dim
        self.action_time = nn.Sequential(
            nn.Linear(time_width, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, hidden_dim)
        )
        self.action_out = nn.Linear(hidden_dim, action_dim)
        if not fine_tune_vlm:
            self.freeze_backbone()

    def forward(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        actions: Tensor | None = None,
        *,
        prefix: VLMPrefix | None = None,
        action_is_pad: Tensor | None = None,
        action_mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **sampling: Any,
    ) -> dict[str, Tensor]:
        """Compute the loss if actions are given; predict actions if not.

        Args:
            images: Camera frames in [0, 1], [B, N, C, H, W], or [B, C, H, W] from one camera;
                None if a `prefix` is given.
            text: One instruction for the whole batch, or one per row; None for no instruction.
            proprioception: Normalised robot state, [B, S]; None if it is not known.
            actions: Normalised true actions, [B, K, A], or [B, A] if `chunk_size` is 1.
            prefix: What `encode_prefix` returned for these images, text and, with `text_bins`,
                states, to save the work.
            action_is_pad: True where a step of the actions is padding, bool [B, K].
            action_mask: The opposite of `action_is_pad`, which may be given in its stead.
            generator: Source of every random draw but dropout; None for the global one.
            **sampling: `inference_steps`, `noise` and `committed`, as in `predict_action`.

        Returns:
            `features`, what is known before acting: the means of the VLM's tokens and of the
            expert's state tokens, [B, D] together. With actions also `loss` and its components:
            `flow_loss` and, with `vq`, `vq_loss` (the sum of the next three),
            `reconstruction_loss`, `codebook_loss`, `commitment_loss`, and to watch the codebook
            `codebook_perplexity` of the batch, `codebook_used`, the share of codes that the last
            100 steps chose, and `codebook_revived`, the number that this step brought back.
            Without actions also `actions`, sampled without gradients, [B, A] or [B, K, A], and
            what `compute_loss` needs.

        Raises:
            ShapeError: If a tensor has another shape than the model was built for.
            ConfigError: If both or none of `images` and `prefix` are given.
            TypeError: If a keyword of a sampler is given beside actions.
        """
        if (images is None) == (prefix is None):
            given = "neither" if images is None else "both"
            raise ConfigError(f"give either images or a prefix, got {given}.")
        if images is not None:
            prefix = self.encode_prefix(images, text, proprioception)
        assert prefix is not None
        context, observed = self._read_state(prefix, proprioception, generator)
        if actions is None:
            sampled = self._integrate(context, generator, **sampling)
            return {**observed, **context.to_outputs(), "actions": sampled}
        refuse_sampling(sampling)
        padding = padding_from(action_is_pad, action_mask)
        return {**observed, **self._losses(context, observed, actions, padding, generator)}

    def compute_loss(
        self,
        outputs: Mapping[str, Tensor],
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compute the flow loss of the true actions, and add the VQ loss in `outputs`.

        Args:
            outputs: What `forward` returned without actions.
            actions: Normalised true actions, [B, K, A], or [B, A] if `chunk_size` is 1.
            action_is_pad: True where a step is padding, bool [B, K].
            generator: Source of times and noise; None for the global one.

        Returns:
            `loss` and its components, as in `forward`.

        Raises:
            ShapeError: If the actions or their padding do not fit.
        """
        context = Pi0Context.from_outputs(outputs)
        return self._losses(context, outputs, actions, action_is_pad, generator)

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
        prefix: VLMPrefix | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Integrate normalised actions from noise; the same generator state gives the same ones.

        Args:
            images: As in `forward`.
            text: As in `forward`.
            proprioception: As in `forward`.
            generator: Source of the initial noise; None for the global one.
            inference_steps: Euler steps; None for `flow_steps`.
            noise: Noise to start from, [B, K, A]; None to draw it.
            committed: Steps that are known already; None for none.
            prefix: As in `forward`.
            **kwargs: Refused.

        Returns:
            Normalised actions, [B, A] if `chunk_size` is 1, else [B, K, A].
        """
        outputs = self(
            images,
            text,
            proprioception,
            prefix=prefix,
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
        return True

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `framework`."""
        trained = not self.vlm.is_frozen
        return {**self._config, "fine_tune_vlm": trained, "vlm": self.vlm.get_config()}

    def velocity(
        self, context: Pi0Context, x: Tensor, times: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Predict the velocity at points of the path.

        Args:
            context: What the actions attend to.
            x: Noised actions, [B, K, A].
            times: Time of each row, [B].
            valid: False where a step is padding and must not be seen, bool [B, K].

        Returns:
            float32 [B, K, A].
        """
        tokens = self.action_in(x.to(self.action_in.weight.dtype))
        time = embed_flow_times(times, self.hidden_dim).to(tokens.dtype)  # [B, H]
        condition = None
        if self.modulates:
            condition = silu(self.action_time(time))
        else:
            time = time[:, None].expand_as(tokens)
            tokens = self.action_time(torch.cat([tokens, time], dim=-1))
        if valid is None:
            valid = context.mask.new_ones(x.shape[:2])
        hidden, _ = self._run_expert(tokens, valid, context, condition)
        return self.action_out(hidden).float()

    def _losses(
        self,
        context: Pi0Context,
        observed: Mapping[str, Tensor],
        actions: Tensor,
        action_is_pad: Tensor | None,
        generator: torch.Generator | None,
    ) -> dict[str, Tensor]:
        shape = (len(context.mask), self.chunk_size, self.action_dim)
        chunk = as_chunk(actions, *shape).float()
        valid = as_validity(action_is_pad, chunk)  # [B, K, 1]
        chunk = torch.where(valid, chunk, chunk.new_zeros(()))
        noise = draw_noise(chunk, generator)
        times = self.path.draw_times(len(chunk), chunk.device, generator)
        x = self.path.interpolate(chunk, noise, times)
        predicted = self.velocity(context, x, times, valid.squeeze(-1))
        error = mse_loss(predicted, self.path.velocity(chunk, noise), reduction="none")
        flow_loss = masked_mean(error, valid)
        losses = {name: observed[name] for name in (*VQ_LOSSES, *VQ_FIGURES) if name in observed}
        # The VLM's last outputs are read by no one, but distributed training asks for a gradient
        # of every parameter in every step.
        loss = flow_loss + 0.0 * observed["features"].float().mean()
        if "vq_loss" in losses:
            loss = loss + self.vq_weight * losses["vq_loss"]
        return {**losses, "flow_loss": flow_loss, "loss": loss}

    @torch.no_grad()
    def _integrate(
        self,
        context: Pi0Context,
        generator: torch.Generator | None,
        inference_steps: int | None = None,
        noise: Tensor | None = None,
        committed: CommittedActions | None = None,
    ) -> Tensor:
        num_steps = self.flow_steps if inference_steps is None else inference_steps
        shape = (len(context.mask), self.chunk_size, self.action_dim)
        times = torch.tensor(self.path.times(num_steps), device=context.mask.device)
        if noise is None:
            noise = draw_noise(times.new_empty(shape), generator)
        elif noise.shape != shape:
            raise ShapeError(f"noise must be {list(shape)}, got {list(noise.shape)}.")
        x = self.path.integrate(
            lambda x, index: self.velocity(context, x, times[index].expand(len(x))),
            noise,
            num_steps,
            committed,
        )
        if self.clip_sample is not None:
            x = x.clamp(-self.clip_sample, self.clip_sample)
        return x.squeeze(1) if self.chunk_size == 1 else x
