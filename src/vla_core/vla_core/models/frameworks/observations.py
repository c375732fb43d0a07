# SPDX-License-Identifier: MIT
"""Checks of what a framework is given, shared by the frameworks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.vlm.base import AbstractVLM, as_camera_images


def check_images(images: Any, num_cameras: int | None) -> Tensor:
    """Return images as [B, N, 3, H, W]; `num_cameras` is None if any number will do.

    Raises:
        ShapeError: If they are no images or come from another number of cameras.
    """
    if not isinstance(images, Tensor):
        raise ShapeError(
            f"images must be a tensor [B, {num_cameras or 'N'}, 3, H, W], "
            f"got {type(images).__name__}."
        )
    cameras = as_camera_images(images)
    if num_cameras is not None and cameras.shape[1] != num_cameras:
        raise ShapeError(
            f"images must be from {num_cameras} cameras (num_cameras), "
            f"got {cameras.shape[1]} in {list(images.shape)}."
        )
    return cameras


def check_proprioception(proprioception: Any, batch_size: int, state_dim: int) -> Tensor:
    """Return the state if it is a float tensor [B, state_dim].

    Raises:
        ShapeError: If it is anything else.
    """
    expected = [batch_size, state_dim]
    if not isinstance(proprioception, Tensor):
        raise ShapeError(
            f"proprioception must be a tensor {expected} (batch, state_dim), "
            f"got {type(proprioception).__name__}."
        )
    if list(proprioception.shape) != expected or not proprioception.is_floating_point():
        raise ShapeError(
            f"proprioception must be floating point {expected} (batch, state_dim), "
            f"got {proprioception.dtype} {list(proprioception.shape)}."
        )
    return proprioception


def check_unread_state(proprioception: Any, batch_size: int) -> None:
    """Refuse what cannot be a state, also where the policy reads none.

    Raises:
        ShapeError: If it is neither None nor a tensor [B, S].
    """
    if proprioception is None:
        return
    is_tensor = isinstance(proprioception, Tensor)
    if not is_tensor or proprioception.ndim != 2 or len(proprioception) != batch_size:
        got = list(proprioception.shape) if is_tensor else type(proprioception).__name__
        raise ShapeError(
            f"proprioception must be a tensor [{batch_size}, state_dim], got {got}; it is not "
            "read unless the model is built with a state_dim."
        )


def check_vlm(vlm: Any) -> AbstractVLM:
    """Return what is given if it is a VLM.

    Raises:
        ConfigError: If it is anything else, such as a name.
    """
    if not isinstance(vlm, AbstractVLM):
        raise ConfigError(
            f"vlm must be a vision-language model, such as get_vlm('tiny'), got {vlm!r}."
        )
    return vlm


def padding_from(action_is_pad: Tensor | None, action_mask: Tensor | None) -> Tensor | None:
    """Return which steps are padding, bool [B, K], from either way of saying it.

    Args:
        action_is_pad: True where a step is padding, as in LeRobot datasets.
        action_mask: The opposite, True where a step is valid.

    Raises:
        ConfigError: If both are given.
        ShapeError: If the mask is not bool.
    """
    if action_mask is None:
        return action_is_pad
    if action_is_pad is not None:
        raise ConfigError("action_is_pad and action_mask say the same; give only one of them.")
    dtype = getattr(action_mask, "dtype", type(action_mask).__name__)
    if dtype != torch.bool:
        raise ShapeError(f"action_mask must be a bool tensor [B, K], got {dtype}.")
    return ~action_mask


def refuse_sampling(sampling: Mapping[str, Any]) -> None:
    """Refuse the keywords of a sampler, or misspelt ones, where actions are given.

    Raises:
        TypeError: If there are any: the loss would be computed without them.
    """
    if sampling:
        raise TypeError(f"with actions, forward has no keywords {sorted(sampling)}.")
