# SPDX-License-Identifier: MIT
"""The eyes of the tiny VLM without its language: small, quick on a CPU, and trained if wished."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from vla_core.errors import ConfigError
from vla_core.models.encoders.vision import (
    AbstractVisionEncoder,
    check_image_size,
    register_vision_encoder,
)
from vla_core.models.layers.patch_merging import STEM_STRIDE, PatchMergingStem
from vla_core.models.weights import WEIGHTS_NAME, load_tensors, read_part_tensors

_PRETRAINED = Path(__file__).resolve().parents[2] / "checkpoints" / "tiny_vlm" / WEIGHTS_NAME


@register_vision_encoder("patch_merging")
class PatchMergingEncoder(AbstractVisionEncoder):
    """Merges patches of 4 pixels to one feature per 16 pixels, by matrix products alone.

    Args:
        image_size: Side of the square that images are resized to, px; a multiple of 16.
        output_dim: Width of the features.

    Raises:
        ConfigError: If the size is not possible.
    """

    def __init__(self, image_size: int = 96, output_dim: int = 128) -> None:
        super().__init__()
        if image_size < STEM_STRIDE or image_size % STEM_STRIDE:
            raise ConfigError(f"image_size must be a multiple of {STEM_STRIDE}, got {image_size}.")
        self.image_size = image_size
        self.output_dim = output_dim
        self.stem = PatchMergingStem(image_size, output_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images in [0, 1], [B, 3, H, W], as [B, output_dim, size / 16, size / 16]."""
        check_image_size(images, STEM_STRIDE)
        pixels = images.to(self.stem.position.dtype)
        size = (self.image_size, self.image_size)
        if pixels.shape[-2:] != size:
            pixels = interpolate(pixels, size, mode="bilinear", antialias=True)
        return self.stem(2.0 * pixels - 1.0).permute(0, 3, 1, 2)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `name`."""
        return {
            "name": self.name,
            "image_size": self.image_size,
            "output_dim": self.output_dim,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PatchMergingEncoder:
        """Build an encoder from what `get_config` returned.

        With `pretrained: true` it gets the weights of the tiny VLM that the package ships.

        Raises:
            ConfigError: If the configuration has keys that the encoder does not know.
            CheckpointError: If the pretrained weights do not fit these sizes.
        """
        keywords = dict(config)
        pretrained = keywords.pop("pretrained", False)
        encoder = super().from_config(keywords)
        assert isinstance(encoder, PatchMergingEncoder)
        if pretrained:
            load_tensors(encoder.stem, read_part_tensors(_PRETRAINED, "stem."), _PRETRAINED)
        return encoder
