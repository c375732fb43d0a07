# SPDX-License-Identifier: MIT
"""ACT: action chunking with transformers (Zhao et al., 2023, arXiv:2304.13705).

- A conditional VAE: in training a transformer sums up the demonstrated chunk as a latent, from
  which, with state and images, a transformer encoder-decoder regresses the chunk (L1 loss).
- At inference the latent is zero and the policy deterministic; `sample_prior` draws it instead.
- Overlapping chunks are averaged by `vla_core.inference.temporal_ensembling`.
- There is no language: `text` is accepted, so that all frameworks can be called alike, and is
  not read.

The defaults (preset `seed`) are a short chunk, a latent of 32 and a small KL weight; the preset
`reference` has the published ones (chunk 100, KL weight 10). The published code builds seven
decoder layers and uses the output of the first; here there is one. `from_pretrained` also opens
the policy directories of LeRobot, see `act_lerobot`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads.base import as_chunk, as_validity, masked_mean
from vla_core.models.action_heads.cvae import ActionPosterior, kl_divergence, sample_latent
from vla_core.models.action_heads.diffusion_schedule import draw_noise
from vla_core.models.encoders.vision import AbstractVisionEncoder, as_vision_encoder
from vla_core.models.frameworks.act_lerobot import is_lerobot_policy, read_lerobot_act
from vla_core.models.frameworks.base import AbstractVLA
from vla_core.models.frameworks.observations import (
    check_images,
    check_proprioception,
    padding_from,
)
from vla_core.models.frameworks.registry import register_framework
from vla_core.models.keywords import check_sizes
from vla_core.models.layers.backbone import Backbone
from vla_core.models.layers.detr import DETRTransformer
from vla_core.models.layers.normalization import AffineNormalization
from vla_core.models.layers.positional import feature_map_embedding
from vla_core.models.vlm.base import as_text_list
from vla_core.models.weights import load_tensors


@register_framework("act")
class ACTVLA(AbstractVLA):
    """Regresses a chunk of actions from images, state and a latent.

    Args:
        vision_encoder: Reads each camera's image; an encoder, or the name of one.
        action_dim: Width of one action.
        state_dim: Width of the state; 0 for a policy without state.
        chunk_size: Actions predicted at once.
        latent_dim: Width of the latent.
        kl_weight: Weight of the latent's divergence from the prior in the loss.
        hidden_dim: Width of the transformers; a multiple of 4 and of `num_heads`.
        num_heads: Attention heads.
        feedforward_dim: Hidden width of the transformers' MLPs.
        num_encoder_layers: Layers that read latent, state and images.
        num_decoder_layers: Layers that write the actions.
        num_posterior_layers: Layers that sum up the demonstrated actions; 0 for no VAE, which
            leaves the latent at zero.
        dropout: Dropout probability of the transformers.
        pre_norm: Normalise before each part of a layer instead of after it.
        activation: Of the MLPs, `relu` or `gelu`.
        num_cameras: Cameras of the images; None for any number.
        camera_embedding: Tell the cameras apart by a learned embedding; the published model does
            not.
        freeze_vision_encoder: Keep the vision encoder as it is.
        robot_units: Take states and images and give actions in the units of the data, normalised
            by constants that are stored with the weights, as LeRobot's policies are.

    Raises:
        ConfigError: If a setting is not possible.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "seed": {},
        "reference": {
            "vision_encoder": {"name": "resnet", "depth": 18},
            "action_dim": 14,
            "state_dim": 14,
            "chunk_size": 100,
            "kl_weight": 10.0,
        },
    }

    def __init__(
        self,
        vision_encoder: AbstractVisionEncoder | str | Mapping[str, Any],
        action_dim: int = 7,
        state_dim: int = 14,
        chunk_size: int = 10,
        latent_dim: int = 32,
        kl_weight: float = 0.0001,
        hidden_dim: int = 512,
        num_heads: int = 8,
        feedforward_dim: int = 3200,
        num_encoder_layers: int = 4,
        num_decoder_layers: int = 1,
        num_posterior_layers: int = 4,
        dropout: float = 0.1,
        pre_norm: bool = False,
        activation: str = "relu",
        num_cameras: int | None = None,
        camera_embedding: bool = False,
        freeze_vision_encoder: bool = False,
        robot_units: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(
            action_dim=action_dim,
            chunk_size=chunk_size,
            latent_dim=latent_dim,
            hidden_dim=hidden_dim,
            num_cameras=1 if num_cameras is None else num_cameras,
        )
        if hidden_dim % 4:
            raise ConfigError(f"hidden_dim must be a multiple of 4, got {hidden_dim}.")
        if camera_embedding and num_cameras is None:
            raise ConfigError("camera_embedding needs num_cameras; say how many there are.")
        self._config = {
            "framework": self.framework,
            "action_dim": action_dim,
            "state_dim": state_dim,
            "chunk_size": chunk_size,
            "latent_dim": latent_dim,
            "kl_weight": kl_weight,
            "hidden_dim": hidden_dim,
            "num_heads": num_heads,
            "feedforward_dim": feedforward_dim,
            "num_encoder_layers": num_encoder_layers,
            "num_decoder_layers": num_decoder_layers,
            "num_posterior_layers": num_posterior_layers,
            "dropout": dropout,
            "pre_norm": pre_norm,
            "activation": activation,
            "num_cameras": num_cameras,
            "camera_embedding": camera_embedding,
            "robot_units": robot_units,
        }
        self.action_dim = action_dim
        self.state_dim = state_dim
        self.chunk_size = chunk_size
        self.latent_dim = latent_dim
        self.kl_weight = kl_weight
        self.num_cameras = num_cameras

        self.vision_encoder = as_vision_encoder(vision_encoder)
        self.image_projection = nn.Conv2d(self.vision_encoder.output_dim, hidden_dim, 1)
        self.latent_projection = nn.Linear(latent_dim, hidden_dim)
        self.state_projection = nn.Linear(state_dim, hidden_dim) if state_dim else None
        self.missing_state = nn.Parameter(torch.zeros(hidden_dim)) if state_dim else None
        # Of the latent and, if there is one, of the state.
        self.token_positions = nn.Parameter(torch.randn(1 + bool(state_dim), hidden_dim))
        self.camera_embedding = (
            nn.Parameter(0.02 * torch.randn(num_cameras or 0, hidden_dim))
            if camera_embedding
            else None
        )
        self.transformer = DETRTransformer(
            chunk_size,
            hidden_dim,
            num_heads,
            feedforward_dim,
            num_encoder_layers,
            num_decoder_layers,
            dropout,
            pre_norm,
            activation,
        )
        self.action_output = nn.Linear(hidden_dim, action_dim)
        self.posterior = (
            ActionPosterior(
                action_dim,
                state_dim,
                chunk_size,
                latent_dim,
                hidden_dim,
                num_posterior_layers,
                num_heads,
                feedforward_dim,
                dropout,
                pre_norm,
                activation,
            )
            if num_posterior_layers
            else None
        )
        self.state_units = AffineNormalization(state_dim) if robot_units and state_dim else None
        self.action_units = AffineNormalization(action_dim) if robot_units else None
        self.image_units = AffineNormalization(num_cameras or 1, 3, 1, 1) if robot_units else None
        if freeze_vision_encoder:
            self.freeze_backbone()

    @property
    def backbone(self) -> Backbone:
        """The vision encoder, which `freeze_backbone` freezes."""
        return self.vision_encoder

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
        sample_prior: bool = False,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Compute the loss if actions are given; predict actions if not.

        Args:
            images: Camera frames in [0, 1], [B, N, C, H, W], or [B, C, H, W] from one camera.
            text: Not read; one instruction for the whole batch, or one per row.
            proprioception: Normalised robot state, [B, S]; None if it is not known.
            actions: Normalised true actions, [B, K, A], or [B, A] if `chunk_size` is 1.
            action_is_pad: True where a step of the actions is padding, bool [B, K].
            action_mask: The opposite of `action_is_pad`, which may be given in its stead.
            generator: Source of the latent; None for the global one.
            sample_prior: Draw the latent from the prior when predicting; else it is zero.
            **kwargs: Refused.

        Returns:
            `features`, [B, K, hidden_dim]; with actions also `loss` = `reconstruction_loss` (L1)
            + kl_weight * `kl_loss`; without also `actions`, [B, K, A], or [B, A] if `chunk_size`
            is 1, without gradients.

        Raises:
            ShapeError: If a tensor has another shape than the model was built for.
            ConfigError: If both `action_is_pad` and `action_mask` are given.
        """
        if kwargs:
            raise TypeError(f"ACTVLA has no keywords {sorted(kwargs)}.")
        cameras = check_images(images, self.num_cameras).to(self.image_projection.weight.dtype)
        as_text_list(text, len(cameras))
        state = self._as_state(proprioception, len(cameras))
        if actions is None:
            with torch.no_grad():
                latent = cameras.new_zeros(len(cameras), self.latent_dim)
                if sample_prior:
                    latent = draw_noise(latent, generator)
                features = self._decode(latent, cameras, state)
                chunk = self._as_units(self.action_output(features).float())
            predicted = chunk.squeeze(1) if self.chunk_size == 1 else chunk
            return {"features": features, "actions": predicted}

        chunk = as_chunk(actions, len(cameras), self.chunk_size, self.action_dim).float()
        is_pad = padding_from(action_is_pad, action_mask)
        posterior = self._summarise(chunk, state, as_validity(is_pad, chunk))
        latent = cameras.new_zeros(len(cameras), self.latent_dim)
        outputs = {}
        if posterior:
            latent = sample_latent(*posterior, generator).to(cameras.dtype)
            outputs["latent_mean"], outputs["latent_log_variance"] = posterior
        features = outputs["features"] = self._decode(latent, cameras, state)
        return {"features": features, **self.compute_loss(outputs, actions, is_pad, generator)}

    def compute_loss(
        self,
        outputs: Mapping[str, Tensor],
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compare the actions that `outputs['features']` give with the true ones.

        The divergence of the latent counts if `latent_mean` and `latent_log_variance` are there.
        The error is averaged over the valid steps; the published code divides by all of them.
        """
        features = outputs["features"]
        chunk = as_chunk(actions, len(features), self.chunk_size, self.action_dim).float()
        valid = as_validity(action_is_pad, chunk)
        target = self.action_units.normalize(chunk) if self.action_units else chunk
        predicted = self.action_output(features).float()
        reconstruction = masked_mean(l1_loss(predicted, target, reduction="none"), valid)
        losses = {"loss": reconstruction, "reconstruction_loss": reconstruction}
        if "latent_mean" in outputs:
            divergence = kl_divergence(outputs["latent_mean"], outputs["latent_log_variance"])
            losses["loss"] = reconstruction + self.kl_weight * divergence
            losses["kl_loss"] = divergence
        return losses

    @torch.no_grad()
    def predict_action(  # type: ignore[override]
        self,
        images: Tensor | None,
        proprioception: Tensor | None = None,
        text: str | Sequence[str] | None = None,
        *,
        generator: torch.Generator | None = None,
        sample_prior: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Predict normalised actions; deterministic unless `sample_prior` is set.

        ACT reads no text, so the state comes before it, the other way round than in the other
        frameworks.

        Args:
            images: As in `forward`.
            proprioception: As in `forward`.
            text: Not read.
            generator: Source of the latent if it is drawn; None for the global one.
            sample_prior: Draw the latent from the prior; else it is zero, the prior's mean.
            **kwargs: Refused.

        Returns:
            Normalised actions, [B, A] if `chunk_size` is 1, else [B, K, A].

        Raises:
            ShapeError: If a tensor has another shape than the model was built for, or if text was
                given in the place of the state.
        """
        if isinstance(proprioception, (str, list, tuple)):
            raise ShapeError(
                "proprioception must be a tensor, got text: ACT's predict_action takes (images, "
                "proprioception, text); give text by keyword, text=..., if at all."
            )
        outputs = self(
            images,
            text,
            proprioception,
            generator=generator,
            sample_prior=sample_prior,
            **kwargs,
        )
        return outputs["actions"]

    @classmethod
    def from_pretrained(cls, path: str | Path, strict: bool = True) -> ACTVLA:
        """Load what `save_pretrained` wrote, or a policy directory of LeRobot, in eval mode.

        Args:
            path: Directory or file, as given to `save_pretrained`; or LeRobot's directory with
                config.json, model.safetensors and the files of the processors.
            strict: Refuse missing and unexpected weights; misshapen ones are always refused, and
                a LeRobot directory is always read strictly.

        Raises:
            CheckpointError: If a file is missing or damaged, or if a weight does not fit.
            ConfigError: If LeRobot's policy has a setting that is not supported here.
        """
        if not is_lerobot_policy(Path(path)):
            return super().from_pretrained(path, strict)
        policy = read_lerobot_act(Path(path))
        model = cls(**policy.keywords)
        load_tensors(model, policy.tensors, policy.weights_path)
        return model.eval()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `framework`."""
        return {
            **self._config,
            "freeze_vision_encoder": self.vision_encoder.is_frozen,
            "vision_encoder": self.vision_encoder.get_config(),
        }

    def _as_state(self, proprioception: Tensor | None, batch_size: int) -> Tensor | None:
        if proprioception is None or not self.state_dim:
            return None
        state = check_proprioception(proprioception, batch_size, self.state_dim)
        state = state.to(self.image_projection.weight.dtype)
        return self.state_units.normalize(state) if self.state_units else state

    def _as_units(self, chunk: Tensor) -> Tensor:
        return self.action_units.unnormalize(chunk) if self.action_units else chunk

    def _summarise(
        self, chunk: Tensor, state: Tensor | None, valid: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Return mean and log-variance of the latent of true actions [B, K, A]."""
        if self.posterior is None:
            return None
        actions = self.action_units.normalize(chunk) if self.action_units else chunk
        return self.posterior(actions, state, valid)

    def _decode(self, latent: Tensor, cameras: Tensor, state: Tensor | None) -> Tensor:
        """Turn latent [B, Z], images [B, N, 3, H, W] and state into features [B, K, hidden]."""
        tokens = [self.latent_projection(latent).unsqueeze(1)]
        if self.state_projection is not None:
            tokens.append(self._state_token(state, tokens[0]))
        image_tokens, image_positions = self._read_images(cameras)
        positions = torch.cat([self.token_positions, image_positions])  # [L, hidden]
        return self.transformer(torch.cat([*tokens, image_tokens], dim=1), positions)

    def _state_token(self, state: Tensor | None, like: Tensor) -> Tensor:
        assert self.state_projection is not None
        assert self.missing_state is not None
        if state is None:
            return self.missing_state.expand_as(like)
        # The embedding of a missing state gets a gradient, zero, in every step: distributed
        # training asks for one.
        return self.state_projection(state).unsqueeze(1) + 0.0 * self.missing_state

    def _read_images(self, cameras: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens of all cameras, [B, N * h * w, hidden], and their positions."""
        if self.image_units is not None:
            cameras = self.image_units.normalize(cameras)
        batch_size, num_cameras = cameras.shape[:2]
        maps = self.image_projection(self.vision_encoder(cameras.flatten(0, 1)))
        rows, columns = maps.shape[-2:]
        tokens = maps.flatten(2).transpose(1, 2).unflatten(0, (batch_size, num_cameras))
        if self.camera_embedding is not None:
            tokens = tokens + self.camera_embedding[:, None]
        places = feature_map_embedding(rows, columns, maps.shape[1]).to(maps)
        return tokens.flatten(1, 2), places.repeat(num_cameras, 1)
