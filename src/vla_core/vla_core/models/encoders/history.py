# SPDX-License-Identifier: MIT
"""From the images of several steps to tokens that tell step, camera and place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.encoders.vision import AbstractVisionEncoder
from vla_core.models.layers.positional import feature_map_embedding


class FrameTokenizer(nn.Module):
    """Turns the frames of several steps and cameras into tokens.

    A token is the projected feature of a patch, plus its place in the image, its camera and its
    step. The newest step is the last row of the table of steps, so that a short history looks
    like the end of a long one; one more row stands for the goal.

    Args:
        vision_dim: Width of the vision encoder's features.
        hidden_dim: Width of the tokens, a multiple of 4.
        history_length: Largest number of steps before the current one.
        num_cameras: Cameras that have an embedding.

    Raises:
        ConfigError: If a size is not possible.
    """

    def __init__(
        self, vision_dim: int, hidden_dim: int, history_length: int, num_cameras: int
    ) -> None:
        super().__init__()
        if hidden_dim % 4:
            raise ConfigError(f"hidden_dim must be a multiple of 4, got {hidden_dim}.")
        if history_length < 0 or num_cameras < 1:
            raise ConfigError(
                "history_length must not be negative and num_cameras at least 1, got "
                f"{history_length} and {num_cameras}."
            )
        self.history_length = history_length
        self.projection = nn.Linear(vision_dim, hidden_dim)
        self.camera_embedding = nn.Parameter(0.02 * torch.randn(num_cameras, 1, hidden_dim))
        self.step_embedding = nn.Parameter(0.02 * torch.randn(history_length + 2, hidden_dim))

    def steps(self, num_frames: int) -> Tensor:
        """Return the embeddings of the last steps up to the current one, [F, hidden_dim]."""
        return self.step_embedding[self.history_length + 1 - num_frames : -1]

    def goal(self) -> Tensor:
        """Return the embedding that stands for the goal, [1, hidden_dim]."""
        return self.step_embedding[-1:]

    def forward(self, encoder: AbstractVisionEncoder, frames: Tensor, steps: Tensor) -> Tensor:
        """Encode frames.

        Args:
            encoder: Reads each image.
            frames: [B, F, N, 3, H, W].
            steps: What `steps` or `goal` returned, [F, hidden_dim].

        Returns:
            [B, F, N * h * w, hidden_dim].

        Raises:
            ShapeError: If there are more cameras than embeddings.
        """
        num_cameras = frames.shape[2]
        if num_cameras > len(self.camera_embedding):
            raise ShapeError(
                f"images must be from at most {len(self.camera_embedding)} cameras, "
                f"got {num_cameras}."
            )
        cameras = self.camera_embedding[:num_cameras]
        maps = encoder(frames.flatten(0, 2))  # [B * F * N, C, h, w]
        rows, columns = maps.shape[-2:]
        tokens = self.projection(maps.flatten(2).transpose(1, 2)).unflatten(0, frames.shape[:3])
        places = feature_map_embedding(rows, columns, tokens.shape[-1]).to(tokens)
        return (tokens + places + cameras + steps[:, None, None]).flatten(2, 3)


def join_history(
    images: Tensor, history: Any, history_is_pad: Any, history_length: int
) -> tuple[Tensor, Tensor]:
    """Put earlier frames before the current ones.

    Args:
        images: The current frames, [B, N, 3, H, W].
        history: Earlier frames, oldest first, [B, T, N, 3, H, W], or [B, T, 3, H, W] from one
            camera; None for none.
        history_is_pad: True where an earlier step is padding, bool [B, T]; None for nowhere.
        history_length: Largest T.

    Returns:
        Frames [B, T + 1, N, 3, H, W], black where they are padding, and which are padding, bool
        [B, T + 1].

    Raises:
        ShapeError: If the history or its padding does not fit.
    """
    batch_size, num_cameras = images.shape[:2]
    if history is None:
        if history_is_pad is not None:
            raise ShapeError("history_pad_mask was given without history_images.")
        return images.unsqueeze(1), torch.zeros(
            batch_size, 1, dtype=torch.bool, device=images.device
        )
    frames = history
    if isinstance(history, Tensor) and history.dim() == 5 and num_cameras == 1:
        frames = history.unsqueeze(2)
    expected = ["T", *images.shape[1:]]
    if (
        not isinstance(frames, Tensor)
        or frames.dim() != 6
        or len(frames) != batch_size
        or frames.shape[2:] != images.shape[1:]
        or not frames.is_floating_point()
    ):
        got = list(history.shape) if isinstance(history, Tensor) else type(history).__name__
        raise ShapeError(
            f"history_images must be floating point {[batch_size, *expected]} (batch, earlier "
            f"steps, cameras, ...), as large as images, got {got}."
        )
    num_steps = frames.shape[1]
    if num_steps > history_length:
        raise ShapeError(
            f"history_images must have at most {history_length} steps (history_length), got "
            f"{num_steps}; the current images do not belong to them."
        )
    if history_is_pad is None:
        history_is_pad = torch.zeros(batch_size, num_steps, dtype=torch.bool, device=images.device)
    if history_is_pad.shape != (batch_size, num_steps) or history_is_pad.dtype != torch.bool:
        raise ShapeError(
            f"history_pad_mask must be bool {[batch_size, num_steps]} (batch, earlier steps), "
            f"got {history_is_pad.dtype} {list(history_is_pad.shape)}."
        )
    is_pad = torch.cat([history_is_pad, history_is_pad.new_zeros(batch_size, 1)], dim=1)
    joined = torch.cat([frames, images.unsqueeze(1)], dim=1)
    return joined.masked_fill(is_pad[:, :, None, None, None, None], 0.0), is_pad
