# SPDX-License-Identifier: MIT
"""Random crops, shifts and colours of training images, so that a policy does not rely on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vla_core.errors import ShapeError
from vla_core.processing.value_checks import require_fraction

# Luma of ITU-R BT.601, as in torchvision's colour jitter.
_LUMA = (0.299, 0.587, 0.114)

NUM_DRAWS = 8
"""Random numbers that decide how an image is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAugmentation:
    """Changes every image of a batch in its own way; a value of 0 leaves that part out.

    Attributes:
        crop: Largest share of height and width that is cut off before the rest is enlarged.
        shift: Largest shift as a share of height and width; the border is repeated.
        brightness: Largest relative change of all values.
        contrast: Largest relative change of the distance to the mean grey.
        saturation: Largest relative change of the distance to the pixel's own grey.

    Raises:
        ConfigError: A value is not in [0, 1).
    """

    crop: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("crop", "shift", "brightness", "contrast", "saturation"):
            require_fraction(name, getattr(self, name))

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return augmented images of the same shape.

        Args:
            images: Images in [0, 1], float [..., 3, H, W].
            generator: Of the random numbers, on the device of the images.

        Raises:
            ShapeError: They are no images.
        """
        draws = torch.rand(
            (*images.shape[:-3], NUM_DRAWS),
            generator=generator,
            device=images.device,
            dtype=images.dtype,
        )
        return self.apply(images, draws)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return augmented images of the same shape, changed as random numbers say.

        Args:
            images: Images in [0, 1], float [..., 3, H, W].
            draws: Uniform in [0, 1), [..., NUM_DRAWS].

        Raises:
            ShapeError: They are no images.
        """
        if images.ndim < 4 or images.shape[-3] != 3:
            raise ShapeError(f"images must be [..., 3, H, W], got {list(images.shape)}.")
        flat = images.reshape(-1, *images.shape[-3:])
        numbers = draws.reshape(len(flat), NUM_DRAWS)
        if self.crop or self.shift:
            flat = self._moved(flat, numbers[:, :5])
        return self._recoloured(flat, numbers[:, 5:]).reshape(images.shape)

    def _moved(self, images: Tensor, draws: Tensor) -> Tensor:
        zoom = 1.0 - self.crop * draws[:, 0]
        # In the coordinates of grid_sample a side is 2 long.
        inside = (1.0 - zoom)[:, None] * (2.0 * draws[:, 1:3] - 1.0)
        outside = 2.0 * self.shift * (2.0 * draws[:, 3:5] - 1.0)
        theta = images.new_zeros(len(images), 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = zoom
        theta[:, :, 2] = inside + outside
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )

    def _recoloured(self, images: Tensor, draws: Tensor) -> Tensor:
        signs = (2.0 * draws - 1.0).view(-1, 3, 1, 1, 1)
        luma = images.new_tensor(_LUMA).view(1, 3, 1, 1)
        if self.brightness:
            images = (images * (1.0 + self.brightness * signs[:, 0])).clamp(0.0, 1.0)
        if self.contrast:
            mean = (images * luma).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
            factor = 1.0 + self.contrast * signs[:, 1]
            images = (mean + (images - mean) * factor).clamp(0.0, 1.0)
        if self.saturation:
            grey = (images * luma).sum(dim=1, keepdim=True)
            factor = 1.0 + self.saturation * signs[:, 2]
            images = (grey + (images - grey) * factor).clamp(0.0, 1.0)
        return images
