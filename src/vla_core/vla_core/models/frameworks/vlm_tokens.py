# SPDX-License-Identifier: MIT
"""The VLM's tokens of an observation: computed now, or computed before."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.frameworks.observations import check_images
from vla_core.models.vlm.base import AbstractVLM, VLMOutput, as_text_list


def encode_observation(
    vlm: AbstractVLM, images: Tensor | None, text: str | Sequence[str] | None, num_cameras: int
) -> VLMOutput:
    """Return the tokens of images [B, N, C, H, W] or [B, C, H, W] and of the instruction.

    Raises:
        ShapeError: If the images or the number of texts do not fit.
    """
    cameras = check_images(images, num_cameras)
    return vlm.encode(cameras, as_text_list(text, len(cameras)))


def check_vlm_features(vlm_features: VLMOutput, vlm: AbstractVLM) -> VLMOutput:
    """Return tokens that were computed before.

    Raises:
        ShapeError: If they are those of another VLM.
    """
    if vlm_features.features.shape[-1] != vlm.hidden_size:
        raise ShapeError(
            f"vlm_features must be [B, L, {vlm.hidden_size}] (the VLM's hidden_size), "
            f"got {list(vlm_features.features.shape)}."
        )
    return vlm_features


def tokens_of(
    vlm: AbstractVLM,
    images: Tensor | None,
    text: str | Sequence[str] | None,
    vlm_features: VLMOutput | None,
    num_cameras: int,
) -> VLMOutput:
    """Return `vlm_features` if they are given, else the tokens of images and text.

    Raises:
        ConfigError: If both or none of `images` and `vlm_features` are given.
        ShapeError: If what is given does not fit.
    """
    if (images is None) == (vlm_features is None):
        given = "neither" if images is None else "both"
        raise ConfigError(f"give either images or vlm_features, got {given}.")
    if images is not None:
        return encode_observation(vlm, images, text, num_cameras)
    assert vlm_features is not None
    return check_vlm_features(vlm_features, vlm)
