# SPDX-License-Identifier: MIT
"""Helix: three tiers at three rates, from a VLM's plan to the action that is due.

- The planner, a VLM, reads images and instruction into one latent plan, a few times a second.
- The policy, a small transformer with eyes of its own, turns plan, images and state into a
  sequence of actions, tens of times a second, from whichever plan is the newest.
- Motor control turns the sequence and the newest state into the action that is due, at the rate
  of the robot.

Each tier is a module of its own (`planner`, `policy`, `motor_control`) that can be saved, loaded
and run in its own process. As the policy is faster than the planner, it works with plans that are
some ticks old. So in training the plan can come from an earlier observation (`plan_images`), its
age drawn at random; the policy is told the age.

Helix is closed. What is known is Figure's report "Helix: A vision-language-action model for
generalist humanoid control" (2025): a 7B VLM at 7 to 9 Hz, one continuous latent vector, an 80M
policy at 200 Hz, regression end to end, and a temporal offset between the two in training; a
motor network of 10M at 1 kHz was added in 2026. Here, beyond that: the plan loss (the plan alone
must tell roughly what follows) and the smoothing loss. Unlike there, the policy is one transformer
over all tokens instead of an encoder and a decoder. The preset `reference` has the known sizes,
its widths being ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads.base import as_chunk, as_validity, masked_mean
from vla_core.models.action_heads.mlp import LOSSES
from vla_core.models.encoders.vision import AbstractVisionEncoder
from vla_core.models.frameworks.base import AbstractVLA
from vla_core.models.frameworks.helix_parts import (
    TIERS,
    build_motor_control,
    build_planner,
    build_policy,
    load_tier,
)
from vla_core.models.frameworks.observations import padding_from
from vla_core.models.frameworks.registry import register_framework
from vla_core.models.frameworks.vlm_tokens import encode_observation
from vla_core.models.keywords import check_choice, check_probability, check_sizes
from vla_core.models.vlm.base import AbstractVLM, VLMOutput

__all__ = ["TIERS", "HelixVLA"]


@register_framework("helix")
class HelixVLA(AbstractVLA):
    """Plans with a VLM, acts with a transformer, corrects with a small network.

    Args:
        vlm: The backbone of the planner.
        action_dim: Width of one action.
        state_dim: Width of the state.
        plan_dim: Width of the plan, a multiple of 8.
        plan_horizon: Actions of the sequence, K.
        freeze_vlm: Keep the VLM as it is.
        num_cameras: Cameras of the images.
        hidden_dim: Width of the policy, a multiple of 4 and of `num_heads`.
        depth: Transformer blocks of the policy.
        num_heads: Attention heads of the policy.
        motor_dim: Width of the motor control.
        plan_max_age: Largest age of a plan, in steps of the sequence.
        loss: Loss of actions, sequence and plan: `mse`, `l1` or `huber`.
        plan_weight: Weight of the plan loss; 0 for none.
        smoothing_weight: Weight of the smoothing loss.
        dropout: Dropout probability of the policy.
        state_dropout: Probability, in training, that a row's state is hidden from the policy.
        motor_state_noise: Standard deviation of the noise on the state that motor control gets in
            training, normalised.
        vision_encoder: The policy's eyes: an encoder, or the name or configuration of one; None
            for `patch` of width `hidden_dim`.

    Raises:
        ConfigError: If a setting is not possible.
    """

    looks_beside_vlm = True
    load_tier = staticmethod(load_tier)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "seed": {},
        "reference": {
            "freeze_vlm": False,
            "hidden_dim": 768,
            "depth": 11,
            "num_heads": 12,
            "motor_dim": 1792,
            "plan_max_age": 25,
            "plan_weight": 0.0,
            "smoothing_weight": 0.0,
        },
    }

    def __init__(
        self,
        vlm: AbstractVLM,
        action_dim: int = 7,
        state_dim: int = 14,
        plan_dim: int = 256,
        plan_horizon: int = 10,
        freeze_vlm: bool = True,
        num_cameras: int = 1,
        hidden_dim: int = 256,
        depth: int = 4,
        num_heads: int = 4,
        motor_dim: int = 128,
        plan_max_age: int = 0,
        loss: str = "mse",
        plan_weight: float = 0.1,
        smoothing_weight: float = 0.01,
        dropout: float = 0.0,
        state_dropout: float = 0.0,
        motor_state_noise: float = 0.0,
        vision_encoder: AbstractVisionEncoder | str | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_choice("loss", loss, tuple(LOSSES))
        check_probability("state_dropout", state_dropout)
        if motor_state_noise < 0.0:
            raise ConfigError(f"motor_state_noise must not be negative, got {motor_state_noise}.")
        check_sizes(
            action_dim=action_dim,
            state_dim=state_dim,
            plan_horizon=plan_horizon,
            hidden_dim=hidden_dim,
            num_cameras=num_cameras,
        )
        self._config = {
            "framework": self.framework,
            "action_dim": action_dim,
            "state_dim": state_dim,
            "plan_dim": plan_dim,
            "plan_horizon": plan_horizon,
            "num_cameras": num_cameras,
            "hidden_dim": hidden_dim,
            "depth": depth,
            "num_heads": num_heads,
            "motor_dim": motor_dim,
            "plan_max_age": plan_max_age,
            "loss": loss,
            "plan_weight": plan_weight,
            "smoothing_weight": smoothing_weight,
            "dropout": dropout,
            "state_dropout": state_dropout,
            "motor_state_noise": motor_state_noise,
        }
        self.action_dim = action_dim
        self.plan_horizon = plan_horizon
        self.plan_max_age = plan_max_age
        self.loss = loss
        self.plan_weight = plan_weight
        self.smoothing_weight = smoothing_weight
        self.planner = build_planner(self._config, vlm)
        self.policy = build_policy({**self._config, "vision_encoder": vision_encoder})
        self._config["vision_encoder"] = self.policy.vision.get_config()
        self.motor_control = build_motor_control(self._config)
        # Reads from the plan alone what follows; used by the plan loss only.
        self.plan_decoder = nn.Linear(plan_dim, plan_horizon * action_dim) if plan_weight else None
        if freeze_vlm:
            self.freeze_backbone()

    @property
    def vlm(self) -> AbstractVLM:  # type: ignore[override]
        """The backbone of the planner."""
        return self.planner.vlm

    def forward(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        actions: Tensor | None = None,
        *,
        plan: Tensor | None = None,
        plan_images: Tensor | None = None,
        plan_age: int | Tensor | None = None,
        vlm_features: VLMOutput | None = None,
        action_is_pad: Tensor | None = None,
        action_mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Run all tiers; compute the loss if actions are given.

        Args:
            images: Camera frames of now in [0, 1], [B, N, C, H, W], or [B, C, H, W] from one
                camera.
            text: One instruction for the whole batch, or one per row; None for no instruction.
            proprioception: Normalised robot state of now, [B, S]; None if it is not known.
            actions: Normalised true actions, [B, K, A]; [B, A] are the first ones alone.
            plan: What `high_level_planning` returned, now or earlier; None to plan.
            plan_images: What the planner sees in the place of `images`. A history
                [B, T, N, C, H, W], whose index is the age (0 is now), of which each row gets one
                frame at random, or the one that `plan_age` says; or the frames of that age,
                [B, N, C, H, W] or [B, C, H, W].
            plan_age: Steps of the sequence since the observation of `plan` or `plan_images`, at
                most `plan_max_age`: a number, or int64 [B]; None for 0, or for a draw.
            vlm_features: What `encode_vlm` returned for what the planner sees, now or `plan_age`
                steps ago, in the place of `plan_images`, to save the work.
            action_is_pad: True where a step of the actions is padding, bool [B, K].
            action_mask: The opposite of `action_is_pad`, which may be given in its stead.
            generator: Source of the drawn ages; None for the global one.
            **kwargs: Refused.

        Returns:
            `plan` [B, plan_dim], `plan_age` int64 [B], `action_sequence` [B, K, A] and the action
            that is due, `actions` [B, A]; with actions also `loss` and its components
            `action_loss`, `sequence_loss`, `plan_loss` and `smoothing_loss`. Without actions,
            nothing carries a gradient.

        Raises:
            ShapeError: If a tensor has another shape than the model was built for.
            ConfigError: If the plan is given twice, or is older than `plan_max_age`.
        """
        if kwargs:
            raise TypeError(f"HelixVLA has no keywords {sorted(kwargs)}.")
        with torch.set_grad_enabled(torch.is_grad_enabled() and actions is not None):
            if vlm_features is not None:
                if plan is not None or plan_images is not None:
                    raise ConfigError("give one of plan, plan_images and vlm_features.")
                plan = self.planner(None, vlm_features=vlm_features)
                age = self.policy.check_age(0 if plan_age is None else plan_age, len(plan))
            elif plan is None:
                seen, age = self._observation_of_plan(images, plan_images, plan_age, generator)
                plan = self.planner(seen, text)
            elif plan_images is not None:
                raise ConfigError("give either plan or plan_images, got both.")
            else:
                age = self.policy.check_age(0 if plan_age is None else plan_age, len(plan))
            sequence = self.policy(plan, images, proprioception, age)
            action = self.motor_control(sequence, proprioception)
        outputs = {
            "plan": plan,
            "plan_age": age,
            "action_sequence": sequence,
            "actions": action,
        }
        if actions is None:
            return outputs
        padding = padding_from(action_is_pad, action_mask)
        return {**outputs, **self.compute_loss(outputs, actions, padding, generator)}

    def high_level_planning(
        self, images: Tensor | None, text: str | Sequence[str] | None = None
    ) -> Tensor:
        """Run the planner alone.

        Args:
            images: As in `forward`.
            text: As in `forward`.

        Returns:
            The plan, [B, plan_dim], which `forward` and `predict_action` take as `plan`.
        """
        return self.planner(images, text)

    def encode_vlm(self, images: Tensor, text: str | Sequence[str] | None = None) -> VLMOutput:
        """Return the tokens of the planner's VLM, which a trainer may keep while it is frozen.

        Args:
            images: As in `forward`.
            text: As in `forward`.
        """
        return encode_observation(self.vlm, images, text, self.planner.num_cameras)

    def compute_loss(
        self,
        outputs: Mapping[str, Tensor],
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compare what the tiers said with the true actions.

        Args:
            outputs: `plan`, `action_sequence` and `actions` of `forward`.
            actions: Normalised true actions, [B, K, A]; [B, A] are the first ones alone.
            action_is_pad: True where a step is padding, bool [B, K].
            generator: Not used; nothing is drawn.

        Returns:
            `loss` and its components: `action_loss` of the action that is due, `sequence_loss` of
            the sequence, `plan_loss` of the sequence as the plan alone tells it (unless
            `plan_weight` is 0), and `smoothing_loss`, the mean square of the second difference of
            the sequence.

        Raises:
            ShapeError: If the actions or their padding do not fit.
        """
        sequence = outputs["action_sequence"].float()
        target, valid = self._targets(sequence, actions, action_is_pad)
        terms = {
            "action_loss": self._regression(
                outputs["actions"].float().unsqueeze(1), target[:, :1], valid[:, :1]
            ),
            "sequence_loss": self._regression(sequence, target, valid),
        }
        weights = {"action_loss": 1.0, "sequence_loss": 1.0}
        if self.plan_decoder is not None:
            told = self.plan_decoder(outputs["plan"]).float().view_as(target)
            terms["plan_loss"] = self._regression(told, target, valid)
            weights["plan_loss"] = self.plan_weight
        bends = sequence[:, 2:] - 2.0 * sequence[:, 1:-1] + sequence[:, :-2]
        unpadded = valid[:, 2:] & valid[:, 1:-1] & valid[:, :-2]
        terms["smoothing_loss"] = masked_mean(bends.square(), unpadded)
        weights["smoothing_loss"] = self.smoothing_weight
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return {"loss": loss, **terms}

    def predict_action(  # type: ignore[override]
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        *,
        return_sequence: bool = False,
        plan: Tensor | None = None,
        plan_age: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Predict the action that is due; nothing is random.

        Args:
            images: As in `forward`.
            text: As in `forward`; not read if a plan is given.
            proprioception: As in `forward`.
            return_sequence: Return the whole sequence as well.
            plan: As in `forward`.
            plan_age: As in `forward`.
            generator: Not used; nothing is drawn.
            **kwargs: Refused.

        Returns:
            The normalised action [B, A]; with `return_sequence` also the sequence [B, K, A].
        """
        outputs = self(images, text, proprioception, plan=plan, plan_age=plan_age, **kwargs)
        if return_sequence:
            return outputs["actions"], outputs["action_sequence"]
        return outputs["actions"]

    @property
    def chunk_length(self) -> int:
        """Actions of the sequence, K."""
        return self.plan_horizon

    def _predict_chunk(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None,
        proprioception: Tensor | None,
        **kwargs: Any,
    ) -> Tensor:
        """Predict the sequence, [B, K, A], its first action being the one from motor control."""
        action, sequence = self.predict_action(
            images, text, proprioception, return_sequence=True, **kwargs
        )
        return torch.cat([action.unsqueeze(1), sequence[:, 1:]], dim=1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `framework`."""
        frozen = self.vlm.is_frozen
        return {**self._config, "freeze_vlm": frozen, "vlm": self.vlm.get_config()}

    def _observation_of_plan(
        self,
        images: Tensor | None,
        plan_images: Tensor | None,
        plan_age: int | Tensor | None,
        generator: torch.Generator | None,
    ) -> tuple[Tensor | None, Tensor]:
        """Return what the planner sees, and its age, int64 [B]."""
        if plan_images is None:
            if plan_age is not None:
                raise ConfigError("plan_age is the age of plan or plan_images; give one of them.")
            batch_size = len(images) if isinstance(images, Tensor) else 1
            return images, self.policy.check_age(0, batch_size)
        batch_size = len(plan_images)
        if plan_images.dim() != 6:
            if plan_age is None:
                raise ConfigError("plan_images of one age need plan_age.")
            return plan_images, self.policy.check_age(plan_age, batch_size)
        length = plan_images.shape[1]
        if length > self.plan_max_age + 1:
            raise ShapeError(
                f"plan_images must have at most {self.plan_max_age + 1} ages (plan_max_age + 1), "
                f"got {length} in {list(plan_images.shape)}."
            )
        if plan_age is None:
            device = plan_images.device if generator is None else generator.device
            drawn = torch.randint(length, (batch_size,), generator=generator, device=device)
            plan_age = drawn.to(plan_images.device)
        age = self.policy.check_age(plan_age, batch_size).to(plan_images.device)
        if (age >= length).any():
            raise ConfigError(
                f"plan_age must be less than the {length} ages of plan_images, got {age.tolist()}."
            )
        return plan_images[torch.arange(batch_size, device=age.device), age], age

    def _targets(
        self, sequence: Tensor, actions: Tensor, action_is_pad: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return true actions [B, K, A] and which count, bool [B, K, 1]."""
        batch_size, horizon, action_dim = sequence.shape
        if list(getattr(actions, "shape", ())) == [batch_size, action_dim]:
            first = as_chunk(actions, batch_size, 1, action_dim)
            later = first.new_zeros(batch_size, horizon - 1, action_dim)
            actions = torch.cat([first, later], dim=1)
            is_later = torch.arange(horizon, device=actions.device).expand(len(actions), -1) > 0
            action_is_pad = is_later if action_is_pad is None else action_is_pad | is_later
        target = as_chunk(actions, batch_size, horizon, action_dim).float()
        return target, as_validity(action_is_pad, target)

    def _regression(self, predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return masked_mean(LOSSES[self.loss](predicted, target, reduction="none"), valid)
