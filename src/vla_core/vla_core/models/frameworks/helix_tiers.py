# SPDX-License-Identifier: MIT
"""The three tiers of Helix, each a module that is built, saved, loaded and run on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vla_core.errors import CheckpointError, ConfigError, ShapeError
from vla_core.models.components import Component, build_component
from vla_core.models.encoders.context import ContextPooling
from vla_core.models.encoders.vision import AbstractVisionEncoder, as_vision_encoder
from vla_core.models.frameworks.observations import check_images, check_vlm
from vla_core.models.frameworks.state_features import StateFeatures
from vla_core.models.frameworks.vlm_tokens import tokens_of
from vla_core.models.layers.attention import TransformerBlock
from vla_core.models.layers.positional import grid_embedding
from vla_core.models.vlm.base import AbstractVLM, VLMOutput
from vla_core.models.vlm.registry import vlm_from_config
from vla_core.models.weights import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    building_from,
    load_tensors,
    read_config,
    read_tensors,
    write_model,
)

Tier = TypeVar("Tier", bound="HelixTier")

_POOLING_HEADS = 4


class HelixTier(Component):
    """A tier with files of its own, so that a robot may run each in its own process."""

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors of this tier alone, each atomically."""
        folder = Path(directory)
        write_model(folder / WEIGHTS_NAME, folder / CONFIG_NAME, self, self.get_config())

    @classmethod
    def from_pretrained(cls: type[Tier], directory: str | Path) -> Tier:
        """Load what `save_pretrained` wrote, in eval mode; every weight must fit.

        Raises:
            CheckpointError: If a file is missing or damaged, holds another tier, or does not fit.
        """
        folder = Path(directory)
        config = read_config(folder / CONFIG_NAME)
        if config.get("name") != cls.__name__:
            raise CheckpointError(
                f"{folder / CONFIG_NAME} is of {config.get('name', config.get('framework'))!r}, "
                f"not of {cls.__name__}; HelixVLA.load_tier takes a tier out of a whole policy."
            )
        with building_from(folder / CONFIG_NAME):
            tier = cls._from_config(config)
        load_tensors(tier, read_tensors(folder / WEIGHTS_NAME), folder / WEIGHTS_NAME)
        return tier.eval()

    @classmethod
    def _from_config(cls: type[Tier], config: dict[str, Any]) -> Tier:
        return build_component(config, cls)


class HelixPlanner(HelixTier):
    """The slow tier: a VLM reads images and instruction into one latent plan.

    Args:
        vlm: The backbone.
        plan_dim: Width of the plan, a multiple of 8.
        num_cameras: Cameras of the images.
        num_queries: Learned queries that read the VLM's tokens.

    Raises:
        ConfigError: If the width is not possible.
    """

    def __init__(
        self, vlm: AbstractVLM, plan_dim: int = 256, num_cameras: int = 1, num_queries: int = 8
    ) -> None:
        super().__init__()
        if plan_dim % (2 * _POOLING_HEADS):
            raise ConfigError(
                f"plan_dim must be a multiple of {2 * _POOLING_HEADS}, got {plan_dim}."
            )
        self.num_cameras = num_cameras
        self.vlm = check_vlm(vlm)
        self.pooling = ContextPooling(
            vlm.hidden_size,
            plan_dim,
            pooling_dim=plan_dim // 2,
            num_queries=num_queries,
            num_heads=_POOLING_HEADS,
            num_cameras=num_cameras,
        )
        self.norm = nn.LayerNorm(plan_dim)

    def forward(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        vlm_features: VLMOutput | None = None,
    ) -> Tensor:
        """Plan from camera frames, or from what the VLM made of them and the text.

        Args:
            images: [B, N, C, H, W] or [B, C, H, W]; None if `vlm_features` are given.
            text: One instruction for the whole batch, or one per row; None for no instruction.
            vlm_features: Tokens of the VLM that were computed before.

        Returns:
            The plan, [B, plan_dim].

        Raises:
            ConfigError: If both or none of `images` and `vlm_features` are given.
            ShapeError: If what is given does not fit.
        """
        tokens = tokens_of(self.vlm, images, text, vlm_features, self.num_cameras)
        return self.norm(self.pooling(tokens))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `name`."""
        keywords = {**self.__dict__["_keywords"], "vlm": self.vlm.get_config()}
        return {"name": type(self).__name__, **keywords}

    @classmethod
    def _from_config(cls, config: dict[str, Any]) -> HelixPlanner:
        return build_component({**config, "vlm": vlm_from_config(config["vlm"])}, cls)


class HelixPolicy(HelixTier):
    """The fast tier: plan, images and state become a sequence of actions.

    One transformer over the plan's token, the state's token, the image tokens of all cameras and
    a learned query per step of the sequence; the queries become the actions.

    Args:
        action_dim: Width of one action.
        state_dim: Width of the state.
        plan_dim: Width of the plan.
        plan_horizon: Actions of the sequence, K.
        hidden_dim: Width of the tokens, a multiple of 4 and of `num_heads`.
        depth: Transformer blocks.
        num_heads: Attention heads of a block.
        num_cameras: Cameras of the images.
        plan_max_age: Largest age of a plan, in steps of the sequence.
        dropout: Dropout probability of the transformer.
        state_dropout: Probability, in training, that a row's state is hidden.
        vision_encoder: Its eyes: an encoder, or the name or configuration of one; None for
            `patch` of width `hidden_dim`.

    Raises:
        ConfigError: If a width is not possible.
    """

    def __init__(
        self,
        action_dim: int,
        state_dim: int,
        plan_dim: int = 256,
        plan_horizon: int = 10,
        hidden_dim: int = 256,
        depth: int = 4,
        num_heads: int = 4,
        num_cameras: int = 1,
        plan_max_age: int = 0,
        dropout: float = 0.0,
        state_dropout: float = 0.0,
        vision_encoder: AbstractVisionEncoder | Mapping[str, Any] | str | None = None,
    ) -> None:
        super().__init__()
        if plan_max_age < 0 or plan_horizon < 1:
            raise ConfigError(
                "plan_max_age must be at least 0 and plan_horizon at least 1, "
                f"got {plan_max_age} and {plan_horizon}."
            )
        self.plan_dim = plan_dim
        self.plan_horizon = plan_horizon
        self.plan_max_age = plan_max_age
        self.num_cameras = num_cameras
        if vision_encoder is None:
            vision_encoder = {"name": "patch", "output_dim": hidden_dim}
        self.vision = as_vision_encoder(vision_encoder)
        self.vision_projection: nn.Module = (
            nn.Identity()
            if self.vision.output_dim == hidden_dim
            else nn.Linear(self.vision.output_dim, hidden_dim)
        )
        self.camera_embedding = nn.Parameter(torch.randn(num_cameras, 1, hidden_dim) * 0.02)
        self.state = StateFeatures(state_dim, hidden_dim, state_dropout)
        self.plan_projection = nn.Linear(plan_dim, hidden_dim)
        self.plan_age_embedding = nn.Embedding(plan_max_age + 1, hidden_dim)
        self.queries = nn.Parameter(torch.randn(1, plan_horizon, hidden_dim) * 0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(hidden_dim, num_heads, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, action_dim)

    def forward(
        self,
        plan: Tensor,
        images: Tensor | None,
        proprioception: Tensor | None = None,
        plan_age: int | Tensor = 0,
    ) -> Tensor:
        """Turn a plan, old or new, and what is seen and felt now into actions.

        Args:
            plan: What the planner returned, [B, plan_dim].
            images: Camera frames of now, [B, N, C, H, W] or [B, C, H, W].
            proprioception: Normalised robot state, [B, S]; None if it is not known.
            plan_age: Steps of the sequence that passed since the plan's observation, at most
                `plan_max_age`: one number for all rows, or int64 [B].

        Returns:
            Normalised actions, [B, K, A].

        Raises:
            ShapeError: If a tensor has another shape than the tier was built for.
            ConfigError: If the plan is older than `plan_max_age`.
        """
        cameras = check_images(images, self.num_cameras)
        batch_size = len(cameras)
        if list(plan.shape) != [batch_size, self.plan_dim]:
            raise ShapeError(
                f"plan must be {[batch_size, self.plan_dim]} (batch, plan_dim), "
                f"got {list(plan.shape)}."
            )
        age = self.check_age(plan_age, batch_size).to(plan.device)
        intent = self.plan_projection(plan) + self.plan_age_embedding(age)
        state = self.state(proprioception, batch_size)
        x = torch.cat(
            [
                torch.stack([intent, state], dim=1),
                self._see(cameras),
                self.queries.expand(batch_size, -1, -1),
            ],
            dim=1,
        )
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x[:, -self.plan_horizon :]))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `name`."""
        keywords = {**self.__dict__["_keywords"], "vision_encoder": self.vision.get_config()}
        return {"name": type(self).__name__, **keywords}

    def check_age(self, plan_age: int | Tensor, batch_size: int) -> Tensor:
        """Return the age of each row's plan, int64 [B].

        Raises:
            ShapeError: If it is neither a whole number nor int64 [B].
            ConfigError: If a plan is older than what the policy was trained for.
        """
        age = torch.as_tensor(plan_age)
        if age.dim() == 0:
            age = age.expand(batch_size)
        if list(age.shape) != [batch_size] or age.dtype != torch.int64:
            raise ShapeError(
                f"plan_age must be a whole number or int64 [{batch_size}] (batch), "
                f"got {age.dtype} {list(age.shape)}."
            )
        if ((age < 0) | (age > self.plan_max_age)).any():
            raise ConfigError(
                f"plan_age must be 0 to {self.plan_max_age} (plan_max_age) steps, "
                f"got {age.tolist()}; compute a newer plan."
            )
        return age

    def _see(self, cameras: Tensor) -> Tensor:
        """Turn images [B, N, 3, H, W] into tokens [B, N * cells, hidden_dim]."""
        maps = self.vision(cameras.flatten(0, 1))  # [B * N, vision width, h, w]
        tokens = self.vision_projection(maps.flatten(2).transpose(1, 2))
        rows, columns = maps.shape[-2:]
        places = grid_embedding(rows, columns, tokens.shape[-1]).to(tokens)
        tokens = (tokens + places).unflatten(0, cameras.shape[:2])
        return (tokens + self.camera_embedding).flatten(1, 2)


class HelixMotorControl(HelixTier):
    """The fastest tier: the sequence and the newest state become the action that is due.

    It takes the due action from the sequence and corrects it by what the state says now. The
    sequence is moved to the present first, so the network always sees one that starts now.

    Args:
        action_dim: Width of one action.
        state_dim: Width of the state.
        plan_horizon: Actions of the sequence, K.
        hidden_dim: Width of the network.
        num_layers: Hidden layers.
        state_noise: Standard deviation of the noise on the state in training, normalised. The
            state of now then says less about what comes than the sequence does.
    """

    def __init__(
        self,
        action_dim: int,
        state_dim: int,
        plan_horizon: int = 10,
        hidden_dim: int = 128,
        num_layers: int = 2,
        state_noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.action_dim = action_dim
        self.state_noise = state_noise
        self.plan_horizon = plan_horizon
        self.state = StateFeatures(state_dim, hidden_dim)
        layers: list[nn.Module] = []
        width = plan_horizon * action_dim + hidden_dim
        for _ in range(num_layers):
            layers += [nn.Linear(width, hidden_dim), nn.SiLU()]
            width = hidden_dim
        self.layers = nn.Sequential(*layers)
        self.correction = nn.Linear(width, action_dim)
        # It starts as a player of the sequence.
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def forward(
        self, sequence: Tensor, proprioception: Tensor | None = None, elapsed: float = 0.0
    ) -> Tensor:
        """Return the action that is due.

        Args:
            sequence: What the policy returned, [B, K, A].
            proprioception: Normalised robot state of now, [B, S]; None if it is not known.
            elapsed: Steps of the sequence that passed since its observation, with fractions.

        Returns:
            Normalised action, [B, A].

        Raises:
            ShapeError: If a tensor has another shape than the tier was built for.
            ConfigError: If `elapsed` is negative.
        """
        expected = [len(sequence), self.plan_horizon, self.action_dim]
        if list(sequence.shape) != expected:
            raise ShapeError(
                f"sequence must be {expected} (batch, plan_horizon, action_dim), "
                f"got {list(sequence.shape)}."
            )
        upcoming = shift_sequence(sequence, elapsed)
        if self.training and self.state_noise and proprioception is not None:
            noise = torch.randn_like(proprioception)
            proprioception = proprioception + self.state_noise * noise
        state = self.state(proprioception, len(sequence))
        return upcoming[:, 0] + self.correction(
            self.layers(torch.cat([upcoming.flatten(1), state], dim=-1))
        )


def shift_sequence(sequence: Tensor, elapsed: float) -> Tensor:
    """Return the sequence [B, K, A] as it goes on after `elapsed` steps.

    Between steps it is interpolated linearly; after the end its last action is held.

    Raises:
        ConfigError: If `elapsed` is negative.
    """
    if elapsed < 0.0:
        raise ConfigError(f"elapsed must be at least 0 steps, got {elapsed}.")
    last = sequence.shape[1] - 1
    steps = (torch.arange(last + 1, device=sequence.device) + elapsed).clamp(max=last)
    before = steps.floor().long()
    weight = (steps - before).to(sequence.dtype).unsqueeze(-1)
    after = (before + 1).clamp(max=last)
    return torch.lerp(sequence[:, before], sequence[:, after], weight)
