# SPDX-License-Identifier: MIT
"""Octo: one transformer over tasks, observations and readouts (arXiv:2405.12213).

- The sequence is [task | observations of earlier steps | current observation | readouts]. The
  block-causal mask is in `layers.block_causal`: readouts read, and nobody reads them.
- A task is an id with a learned embedding, words, images of the goal, or any of them together.
- Earlier frames come with a padding mask; what is padding has no effect.
- The readouts go to an MLP head or to a diffusion head.
- For training across data sets, a model has several `spaces`, each with its own widths of state
  and action, state projection and head, around the same transformer.

By default it has task ids, a history of five and an MLP (preset `seed`); the published one reads
language by a frozen T5 and has no ids, a window of two steps and a diffusion head of 20 steps on
chunks of 4 (preset `reference`, in the size of Octo-Small, with T5 replaced by hashed words: a
dictionary of a few thousand rows that is trained with the model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vla_core.errors import ShapeError, UnknownNameError
from vla_core.models.encoders.history import FrameTokenizer, join_history
from vla_core.models.encoders.language import HashedWordEncoder
from vla_core.models.encoders.vision import AbstractVisionEncoder, as_vision_encoder
from vla_core.models.frameworks.base import AbstractVLA
from vla_core.models.frameworks.observations import (
    check_images,
    padding_from,
    refuse_sampling,
)
from vla_core.models.frameworks.octo_spaces import (
    HEADS,
    ActionSpace,
    build_octo_head,
    space_sizes,
)
from vla_core.models.frameworks.registry import register_framework
from vla_core.models.keywords import check_choice, check_probability
from vla_core.models.layers.attention import TransformerBlock
from vla_core.models.layers.backbone import Backbone
from vla_core.models.layers.block_causal import TokenKind, TokenSequence
from vla_core.models.vlm.base import as_text_list

DEFAULT_SPACE = "default"
_MOST_CAMERAS = 8


@register_framework("octo")
class OctoVLA(AbstractVLA):
    """Reads actions out of a transformer over the task and a history of observations.

    Args:
        vision_encoder: Reads each image; an encoder, or the name of one.
        action_dim: Width of one action, in the space that is used if none is named.
        state_dim: Width of the state in that space; 0 for a policy without state.
        hidden_dim: Width of the transformer; a multiple of 4 and of `num_heads`.
        num_tasks: Task ids that have an embedding.
        history_length: Largest number of earlier frames.
        num_cameras: Cameras of the images; None for any number up to 8, which may differ from
            call to call.
        chunk_size: Actions predicted at once.
        num_layers: Transformer blocks.
        num_heads: Their attention heads.
        num_readouts: Readout tokens.
        head: `mlp` or `diffusion`.
        loss: What the MLP minimises, `mse`, `l1` or `huber`; the diffusion has its own.
        diffusion_steps: Timesteps of the diffusion head.
        prediction: What it predicts, the noise (`epsilon`) or the `sample`.
        head_dim: Width of the head.
        spaces: Further spaces by name, each with `action_dim`, and if it differs from the first
            space's, `state_dim` and `chunk_size`.
        dropout: Dropout probability of all trained parts.
        state_dropout: Probability, in training, that a row's state is hidden and the policy has to
            go by the images. The published one has no state: its authors saw policies with one do
            worse, as the state tells what the demonstrator had begun to do.
        freeze_vision_encoder: Keep the vision encoder as it is.

    Raises:
        ConfigError: If a setting is not possible.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "seed": {},
        "reference": {
            "vision_encoder": {
                "name": "patch",
                "output_dim": 512,
                "hidden_dims": [32, 96, 192, 384],
            },
            "state_dim": 0,
            "hidden_dim": 384,
            "history_length": 1,
            "chunk_size": 4,
            "num_layers": 12,
            "num_heads": 6,
            "head": "diffusion",
            "diffusion_steps": 20,
            "head_dim": 256,
        },
    }

    def __init__(
        self,
        vision_encoder: AbstractVisionEncoder | str | Mapping[str, Any],
        action_dim: int = 7,
        state_dim: int = 14,
        hidden_dim: int = 512,
        num_tasks: int = 100,
        history_length: int = 5,
        num_cameras: int | None = None,
        chunk_size: int = 1,
        num_layers: int = 6,
        num_heads: int = 8,
        num_readouts: int = 1,
        head: str = "mlp",
        loss: str = "mse",
        diffusion_steps: int = 20,
        prediction: str = "epsilon",
        head_dim: int = 256,
        spaces: Mapping[str, Mapping[str, int]] | None = None,
        dropout: float = 0.0,
        state_dropout: float = 0.0,
        freeze_vision_encoder: bool = False,
    ) -> None:
        super().__init__()
        check_choice("head", head, HEADS)
        check_probability("state_dropout", state_dropout)
        self._config = {
            "framework": self.framework,
            "action_dim": action_dim,
            "state_dim": state_dim,
            "hidden_dim": hidden_dim,
            "num_tasks": num_tasks,
            "history_length": history_length,
            "num_cameras": num_cameras,
            "chunk_size": chunk_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "num_readouts": num_readouts,
            "head": head,
            "loss": loss,
            "diffusion_steps": diffusion_steps,
            "prediction": prediction,
            "head_dim": head_dim,
            "spaces": {name: dict(sizes) for name, sizes in (spaces or {}).items()},
            "dropout": dropout,
            "state_dropout": state_dropout,
        }
        self.num_tasks = num_tasks
        self.num_cameras = num_cameras
        self.vision_encoder = as_vision_encoder(vision_encoder)
        self.frame_tokenizer = FrameTokenizer(
            self.vision_encoder.output_dim,
            hidden_dim,
            history_length,
            num_cameras or _MOST_CAMERAS,
        )
        # One more row for no task: the token is always there.
        self.task_embedding = nn.Embedding(num_tasks + 1, hidden_dim)
        self.word_encoder = HashedWordEncoder(hidden_dim)
        self.readouts = nn.Parameter(0.02 * torch.randn(num_readouts, hidden_dim))
        self.blocks = nn.ModuleList(
            TransformerBlock(hidden_dim, num_heads, dropout=dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_dim)
        first = {"action_dim": action_dim, "state_dim": state_dim, "chunk_size": chunk_size}
        build_head = partial(
            build_octo_head,
            head,
            num_readouts * hidden_dim,
            hidden_dim=head_dim,
            loss=loss,
            diffusion_steps=diffusion_steps,
            prediction=prediction,
            dropout=dropout,
        )
        self.spaces = nn.ModuleDict(
            {
                name: ActionSpace(
                    build_head,
                    hidden_dim,
                    **space_sizes(name, given, first),
                    state_dropout=state_dropout,
                )
                for name, given in {DEFAULT_SPACE: first, **(spaces or {})}.items()
            }
        )
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
        task_id: Tensor | None = None,
        goal_images: Tensor | None = None,
        history_images: Tensor | None = None,
        history_pad_mask: Tensor | None = None,
        history_proprioception: Tensor | None = None,
        space: str = DEFAULT_SPACE,
        action_is_pad: Tensor | None = None,
        action_mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **sampling: Any,
    ) -> dict[str, Tensor]:
        """Compute the loss if actions are given; predict actions if not.

        Args:
            images: Current camera frames in [0, 1], [B, N, C, H, W], or [B, C, H, W] from one
                camera.
            text: One instruction for the whole batch, or one per row; None for none.
            proprioception: Normalised robot state, [B, S]; None if it is not known.
            actions: Normalised true actions, [B, K, A], or [B, A] if `chunk_size` is 1.
            task_id: Which task it is, int64 [B], each from 0 to `num_tasks` - 1, or -1 for none;
                None for none.
            goal_images: What the cameras see when the task is done, shaped as `images`; None for
                none.
            history_images: Earlier frames, oldest first and without the current ones,
                [B, T, N, C, H, W], or [B, T, C, H, W] from one camera; T at most
                `history_length`.
            history_pad_mask: True where an earlier step is padding, bool [B, T].
            history_proprioception: States of the earlier steps, [B, T, S]; None if not known.
            space: Name of the space of state and action.
            action_is_pad: True where a step of the actions is padding, bool [B, K].
            action_mask: The opposite of `action_is_pad`, which may be given in its stead.
            generator: Source of every random draw but dropout; None for the global one.
            **sampling: Keywords of the head's `predict_action`.

        Returns:
            `features`, [B, num_readouts * hidden_dim]; with actions also `loss` and the head's
            component of it; without also `actions`, [B, K, A], or [B, A] if `chunk_size` is 1,
            without gradients.

        Raises:
            ShapeError: If a tensor has another shape than the model was built for.
            UnknownNameError: If the model has no such space.
        """
        part = self._space(space)
        cameras = check_images(images, self.num_cameras)
        frames, frame_is_pad = join_history(
            cameras, history_images, history_pad_mask, self.frame_tokenizer.history_length
        )
        states = part.encode(proprioception, history_proprioception, frame_is_pad)
        sequence = TokenSequence()
        self._add_task(sequence, task_id, text, goal_images, cameras)
        self._add_observations(sequence, frames, ~frame_is_pad, states)
        readouts = self.readouts.expand(len(cameras), -1, -1)
        sequence.add(TokenKind.READOUT, readouts, step=frames.shape[1] - 1)
        features = self._transform(sequence)[:, -len(self.readouts) :].flatten(1)

        if actions is None:
            predicted = part.head.predict_action(features, generator, **sampling)
            return {"features": features, "actions": predicted}
        refuse_sampling(sampling)
        is_pad = padding_from(action_is_pad, action_mask)
        losses = part.head.compute_loss(features, actions, is_pad, generator)
        return {"features": features, **losses}

    def compute_loss(
        self,
        outputs: Mapping[str, Tensor],
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
        space: str = DEFAULT_SPACE,
    ) -> dict[str, Tensor]:
        """Compute the head's loss of the true actions, given `outputs['features']`."""
        head = self._space(space).head
        return head.compute_loss(outputs["features"], actions, action_is_pad, generator)

    @torch.no_grad()
    def predict_action(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Predict normalised actions; deterministic with the MLP head.

        Args:
            images: As in `forward`.
            text: As in `forward`.
            proprioception: As in `forward`.
            **kwargs: `generator`, task, history, space and sampling, as in `forward`.

        Returns:
            Normalised actions, [B, A] if `chunk_size` is 1, else [B, K, A].
        """
        return self(images, text, proprioception, **kwargs)["actions"]

    @property
    def inpaints(self) -> bool:
        """Whether `predict_action` takes `committed` steps and fits the others to them."""
        return self._space(DEFAULT_SPACE).head.inpaints

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `framework`."""
        return {
            **self._config,
            "freeze_vision_encoder": self.vision_encoder.is_frozen,
            "vision_encoder": self.vision_encoder.get_config(),
        }

    def _space(self, name: str) -> ActionSpace:
        if name not in self.spaces:
            names = ", ".join(map(repr, self.spaces))
            raise UnknownNameError(f"space {name!r} is unknown; available: {names}.")
        part = self.spaces[name]
        assert isinstance(part, ActionSpace)
        return part

    def _add_task(
        self,
        sequence: TokenSequence,
        task_id: Tensor | None,
        text: str | Sequence[str] | None,
        goal_images: Tensor | None,
        cameras: Tensor,
    ) -> None:
        batch_size = len(cameras)
        rows = self._task_rows(task_id, batch_size, cameras.device)
        sequence.add(TokenKind.TASK, self.task_embedding(rows).unsqueeze(1))
        sequence.add(
            TokenKind.TASK,
            *self.word_encoder(as_text_list(text, batch_size)),
        )
        if goal_images is not None:
            goal = check_images(goal_images, self.num_cameras)
            if goal.shape != cameras.shape:
                raise ShapeError(
                    f"goal_images must be shaped as images, {list(cameras.shape)}, "
                    f"got {list(goal.shape)}."
                )
            tokens = self.frame_tokenizer(
                self.vision_encoder, goal.unsqueeze(1), self.frame_tokenizer.goal()
            )
            sequence.add(TokenKind.TASK, tokens.flatten(1, 2))

    def _task_rows(self, task_id: Tensor | None, batch_size: int, device: torch.device) -> Tensor:
        if task_id is None:
            return torch.full((batch_size,), self.num_tasks, device=device)
        if task_id.shape != (batch_size,) or task_id.is_floating_point():
            raise ShapeError(
                f"task_id must be int64 [{batch_size}] (batch), "
                f"got {task_id.dtype} {list(task_id.shape)}."
            )
        if ((task_id < -1) | (task_id >= self.num_tasks)).any():
            raise ShapeError(
                f"task_id must be from 0 to {self.num_tasks - 1} (num_tasks), or -1 for none, "
                f"got {task_id.tolist()}."
            )
        return torch.where(task_id < 0, self.num_tasks, task_id)

    def _add_observations(
        self,
        sequence: TokenSequence,
        frames: Tensor,
        is_valid: Tensor,
        states: tuple[Tensor, Tensor] | None,
    ) -> None:
        """Add each step's image tokens, and its state if there is one."""
        steps = self.frame_tokenizer.steps(frames.shape[1])  # [T + 1, hidden]
        tokens = self.frame_tokenizer(self.vision_encoder, frames, steps)
        for step in range(frames.shape[1]):
            valid = is_valid[:, step, None].expand(-1, tokens.shape[2])
            sequence.add(TokenKind.OBSERVATION, tokens[:, step], valid, step)
            if states is not None:
                embedded, is_known = states
                token = (embedded[:, step] + steps[step]).unsqueeze(1)
                sequence.add(TokenKind.OBSERVATION, token, is_known[:, step, None], step)

    def _transform(self, sequence: TokenSequence) -> Tensor:
        x, mask = sequence.join()
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            x, _ = block.extend(x, mask)
        return self.norm(x)
