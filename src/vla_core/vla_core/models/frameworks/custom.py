# SPDX-License-Identifier: MIT
"""Custom: a policy composed of parts, or a subclass that changes one step.

- Learned queries read the VLM's tokens into a few vision tokens and a few text tokens of width
  `hidden_dim`, whatever the VLM's width, number of cameras and padding. So every VLM fits.
- A state encoder turns the robot's state into a vector.
- A fusion joins the three into features, and an action head turns these into a loss or actions.

Parts whose dimensions disagree are refused when the model is built, with both dimensions. A
subclass overrides `_process_features`, which is the step between the tokens and the action head.
There is no publication to compare with, so there is no preset `reference`; the parts name theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError
from vla_core.models.action_heads.base import AbstractActionHead
from vla_core.models.action_heads.mlp import MLPActionHead
from vla_core.models.components import build_component
from vla_core.models.encoders.base import AbstractStateEncoder
from vla_core.models.encoders.context import ContextPooling
from vla_core.models.encoders.mlp_state import MLPStateEncoder
from vla_core.models.frameworks.base import AbstractVLA
from vla_core.models.frameworks.observations import (
    check_proprioception,
    check_vlm,
    padding_from,
    refuse_sampling,
)
from vla_core.models.frameworks.registry import framework_class, register_framework
from vla_core.models.frameworks.vlm_tokens import encode_observation, tokens_of
from vla_core.models.fusion.base import AbstractFusion
from vla_core.models.fusion.concatenation import ConcatenationFusion
from vla_core.models.vlm.base import AbstractVLM, VLMOutput

_POOLING_HEADS = 4


@register_framework("custom")
class CustomVLA(AbstractVLA):
    """Joins a VLM, a state encoder, a fusion and an action head.

    A part is given as a module or as the configuration of one, as its `get_config` returns it.

    Args:
        action_dim: Width of one action.
        vlm: The backbone.
        action_head: From features to actions; None for an MLP.
        state_encoder: From the state to a vector; None for an MLP if `state_dim` is given, and
            for a policy without state if it is not.
        fusion_module: From vision tokens, text tokens and state to features; None to concatenate.
        hidden_dim: Width of the vision and text tokens that the fusion gets; a multiple of 8.
        num_cameras: Cameras of the images.
        state_dim: Width of the state; None for the state encoder's.
        chunk_size: Actions predicted at once; None for the action head's, or 1.
        num_tokens: Vision tokens, and text tokens, that the fusion gets.
        freeze_vlm: Keep the VLM as it is.

    Raises:
        ConfigError: If two parts do not fit each other, naming the dimensions that disagree.
        UnknownNameError: If the configuration of a part names an unknown class.
    """

    def __init__(
        self,
        action_dim: int,
        vlm: AbstractVLM,
        action_head: AbstractActionHead | Mapping[str, Any] | None = None,
        state_encoder: AbstractStateEncoder | Mapping[str, Any] | None = None,
        fusion_module: AbstractFusion | Mapping[str, Any] | None = None,
        hidden_dim: int = 512,
        num_cameras: int = 1,
        state_dim: int | None = None,
        chunk_size: int | None = None,
        num_tokens: int = 4,
        freeze_vlm: bool = False,
    ) -> None:
        super().__init__()
        if hidden_dim % (2 * _POOLING_HEADS):
            raise ConfigError(
                f"hidden_dim must be a multiple of {2 * _POOLING_HEADS}, got {hidden_dim}."
            )
        if state_encoder is None and state_dim is not None:
            state_encoder = MLPStateEncoder(state_dim, hidden_dim)
        self.action_dim = action_dim
        self.hidden_dim = hidden_dim
        self.num_cameras = num_cameras
        self.num_tokens = num_tokens
        self.vlm = check_vlm(vlm)
        self.vision_pooling = self._make_pooling()
        self.text_pooling = self._make_pooling()
        encoder = _as_part("state_encoder", state_encoder, AbstractStateEncoder)
        self.state_encoder: AbstractStateEncoder | None = encoder
        encoded_dim = 0 if encoder is None else encoder.output_dim
        self.missing_state = nn.Parameter(torch.zeros(encoded_dim)) if encoded_dim else None
        fusion = _as_part("fusion_module", fusion_module, AbstractFusion)
        if fusion is None:
            fusion = ConcatenationFusion(hidden_dim, hidden_dim, encoded_dim, hidden_dim)
        self.fusion_module: AbstractFusion = fusion
        head = _as_part("action_head", action_head, AbstractActionHead)
        if head is None:
            head = MLPActionHead(fusion.output_dim, action_dim, chunk_size or 1)
        self.action_head: AbstractActionHead = head
        self._check_fit(encoded_dim, state_dim, chunk_size)
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
            actions: Normalised true actions, [B, K, A], or [B, A] if the head's chunk size is 1.
            vlm_features: What `encode_vlm` returned for these images and text, to save the work.
            action_is_pad: True where a step of the actions is padding, bool [B, K].
            action_mask: The opposite of `action_is_pad`, which may be given in its stead.
            generator: Source of every random draw but dropout; None for the global one.
            **sampling: Keywords of the action head's `predict_action`.

        Returns:
            `features`, [B, feature_dim of the action head]; with actions also `loss` and its
            components, among them `state_loss` where the state encoder has one; without actions
            also `actions`, [B, A] or [B, K, A], without gradients.

        Raises:
            ShapeError: If a tensor has another shape than the model was built for.
            ConfigError: If both or none of `images` and `vlm_features` are given, if there is no
                state encoder for the state, or if `_process_features` returns another width than
                the action head reads.
            TypeError: If a keyword of a sampler is given beside actions.
        """
        tokens = tokens_of(self.vlm, images, text, vlm_features, self.num_cameras)
        vision, language = self._read_tokens(tokens)
        state, state_loss = self._encode_state(proprioception, len(vision), generator)
        features = self._process_features(vision, language, state)
        if features.shape[-1] != self.action_head.feature_dim:
            raise ConfigError(
                f"{type(self).__name__}._process_features returned width {features.shape[-1]}, "
                f"but action_head.feature_dim is {self.action_head.feature_dim}."
            )
        outputs = {"features": features}
        if state_loss is not None:
            outputs["state_loss"] = state_loss
        if actions is None:
            outputs["actions"] = self.action_head.predict_action(features, generator, **sampling)
            return outputs
        refuse_sampling(sampling)
        padding = padding_from(action_is_pad, action_mask)
        return {**outputs, **self.compute_loss(outputs, actions, padding, generator)}

    def _process_features(self, vision: Tensor, text: Tensor, state: Tensor | None) -> Tensor:
        """Turn what was seen, said and felt into what the action head reads.

        Subclasses override this, and may call it.

        Args:
            vision: Tokens of all cameras, [B, num_tokens, hidden_dim].
            text: Tokens of the instruction, [B, num_tokens, hidden_dim]; zero where it is empty.
            state: Encoded state, [B, output_dim of the state encoder]; None without one.

        Returns:
            Features, [B, feature_dim of the action head].
        """
        return self.fusion_module(vision, text, state)

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
        """Compute the action head's loss of the true actions, given `outputs['features']`.

        A `state_loss` in the outputs, what the state encoder itself learns by, is added.
        """
        losses = self.action_head.compute_loss(
            outputs["features"], actions, action_is_pad, generator
        )
        if "state_loss" not in outputs:
            return losses
        state_loss = outputs["state_loss"]
        return {**losses, "loss": losses["loss"] + state_loss, "state_loss": state_loss}

    @torch.no_grad()
    def predict_action(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Predict normalised actions; the same generator state gives the same actions.

        Args:
            images: As in `forward`.
            text: As in `forward`.
            proprioception: As in `forward`.
            **kwargs: `generator`, `vlm_features` and the keywords of the action head's own
                `predict_action`.

        Returns:
            Normalised actions, [B, A] if the head's chunk size is 1, else [B, K, A].
        """
        return self(images, text, proprioception, **kwargs)["actions"]

    @property
    def inpaints(self) -> bool:
        """Whether `predict_action` takes `committed` steps and fits the others to them."""
        return self.action_head.inpaints

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, each part by its configuration."""
        encoder = self.state_encoder
        return {
            "framework": self.framework,
            "action_dim": self.action_dim,
            "vlm": self.vlm.get_config(),
            "action_head": self.action_head.get_config(),
            "state_encoder": None if encoder is None else encoder.get_config(),
            "fusion_module": self.fusion_module.get_config(),
            "hidden_dim": self.hidden_dim,
            "num_cameras": self.num_cameras,
            "state_dim": None if encoder is None else encoder.state_dim,
            "chunk_size": self.action_head.chunk_size,
            "num_tokens": self.num_tokens,
            "freeze_vlm": self.vlm.is_frozen,
        }

    def save_pretrained(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write weights and configuration; see `AbstractVLA.save_pretrained`.

        Raises:
            ConfigError: If this is a subclass that no checkpoint could name.
        """
        if framework_class(self.framework) is not type(self):
            raise ConfigError(
                f"{type(self).__name__} has no name of its own, so its checkpoint could not be "
                "loaded; decorate the class with @register_framework('a_name')."
            )
        super().save_pretrained(path, dtype)

    def _make_pooling(self) -> ContextPooling:
        return ContextPooling(
            self.vlm.hidden_size,
            self.num_tokens * self.hidden_dim,
            pooling_dim=self.hidden_dim // 2,
            num_queries=self.num_tokens,
            num_heads=_POOLING_HEADS,
            num_cameras=self.num_cameras,
        )

    def _read_tokens(self, tokens: VLMOutput) -> tuple[Tensor, Tensor]:
        """Return vision and text, each [B, num_tokens, hidden_dim]."""
        in_image = _restrict(tokens, tokens.image_span)
        in_text = _restrict(tokens, tokens.text_span)
        has_text = in_text.any(dim=1, keepdim=True)
        vision = self.vision_pooling(replace(tokens, mask=in_image))
        # A row without text reads everything, as reading nothing is undefined, and forgets it.
        text = self.text_pooling(replace(tokens, mask=in_text | ~has_text))
        text = torch.where(has_text, text, text.new_zeros(()))
        shape = (self.num_tokens, self.hidden_dim)
        return vision.unflatten(-1, shape), text.unflatten(-1, shape)

    def _encode_state(
        self, proprioception: Tensor | None, batch_size: int, generator: torch.Generator | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the encoded state and what its encoder adds to the loss."""
        if self.state_encoder is None or self.missing_state is None:
            if proprioception is not None:
                raise ConfigError(
                    "proprioception was given, but the model has no state_encoder; give it one, "
                    "or state_dim, or leave proprioception out."
                )
            return None, None
        missing = self.missing_state.expand(batch_size, -1)
        if proprioception is None:
            return missing, None
        state = check_proprioception(proprioception, batch_size, self.state_encoder.state_dim)
        # Every parameter gets a gradient in every step, which distributed training asks for.
        encoded, loss = self.state_encoder.encode(state, generator)
        return encoded + 0.0 * missing, loss

    def _check_fit(self, encoded_dim: int, state_dim: int | None, chunk_size: int | None) -> None:
        fusion, head, encoder = self.fusion_module, self.action_head, self.state_encoder
        pairs: list[tuple[str, int, str, int]] = [
            ("fusion_module.vision_dim", fusion.vision_dim, "hidden_dim", self.hidden_dim),
            ("fusion_module.text_dim", fusion.text_dim, "hidden_dim", self.hidden_dim),
            (
                "fusion_module.state_dim",
                fusion.state_dim,
                "state_encoder.output_dim" if encoded_dim else "the width without state_encoder",
                encoded_dim,
            ),
            ("action_head.action_dim", head.action_dim, "action_dim", self.action_dim),
        ]
        if type(self)._process_features is CustomVLA._process_features:
            if not head.reads_one_vector:
                raise ConfigError(
                    f"action_head {type(head).__name__} reads several vectors for a chunk, but "
                    "the fusion gives one; choose a head that reads one (MLPActionHead with "
                    "per_step=False, DiscreteActionHead), or override _process_features."
                )
            pairs.append(
                (
                    "action_head.feature_dim",
                    head.feature_dim,
                    "fusion_module.output_dim",
                    fusion.output_dim,
                )
            )
        if chunk_size is not None:
            pairs.append(("action_head.chunk_size", head.chunk_size, "chunk_size", chunk_size))
        if encoder is not None and state_dim is not None:
            pairs.append(("state_encoder.state_dim", encoder.state_dim, "state_dim", state_dim))
        faults = [
            f"{first} is {a}, but {second} is {b}" for first, a, second, b in pairs if a != b
        ]
        if faults:
            raise ConfigError(f"parts do not fit: {'; '.join(faults)}.")


def _as_part(name: str, part: Any, kind: type) -> Any:
    if isinstance(part, Mapping):
        return build_component(part, kind)
    if part is not None and not isinstance(part, kind):
        raise ConfigError(
            f"{name} must be of type {kind.__name__} or the configuration of one, "
            f"got {type(part).__name__}."
        )
    return part


def _restrict(tokens: VLMOutput, span: slice) -> Tensor:
    """Return which valid tokens lie in a span of their block, bool [B, L]."""
    in_span = torch.zeros(
        tokens.features.shape[1] // tokens.num_blocks,
        dtype=torch.bool,
        device=tokens.mask.device,
    )
    in_span[span] = True
    return tokens.mask & in_span.repeat(tokens.num_blocks)
