# SPDX-License-Identifier: MIT
"""Random crops, shifts and colours of training images, so that a policy does not rely on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vla_core.errors import ConfigError, ShapeError

# Luma of ITU-R BT.601, as in torchvision's colour jitter.
_LUMA = (0.299, 0.587, 0.114)


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
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ConfigError(f"{name} must be in [0, 1), got {value!r}.")

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return augmented images of the same shape.

        Args:
            images: Images in [0, 1], float [..., 3, H, W].
            generator: Of the random numbers, on the device of the images.

        Raises:
            ShapeError: They are no images.
        """
        if images.ndim < 4 or images.shape[-3] != 3:
            raise ShapeError(f"images must be [..., 3, H, W], got {list(images.shape)}.")
        flat = images.reshape(-1, *images.shape[-3:])
        if self.crop or self.shift:
            flat = self._moved(flat, generator)
        return self._recoloured(flat, generator).reshape(images.shape)

    def _moved(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        count = len(images)
        zoom = 1.0 - self.crop * _uniform((count,), images, generator, 0.0, 1.0)
        # In the coordinates of grid_sample a side is 2 long.
        inside = (1.0 - zoom)[:, None] * _uniform((count, 2), images, generator, -1.0, 1.0)
        outside = 2.0 * self.shift * _uniform((count, 2), images, generator, -1.0, 1.0)
        theta = images.new_zeros(count, 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = zoom
        theta[:, :, 2] = inside + outside
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )

    def _recoloured(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        def factor(largest: float) -> Tensor:
            return _uniform(
                (len(images), 1, 1, 1), images, generator, 1.0 - largest, 1.0 + largest
            )

        luma = images.new_tensor(_LUMA).view(1, 3, 1, 1)
        if self.brightness:
            images = (images * factor(self.brightness)).clamp(0.0, 1.0)
        if self.contrast:
            mean = (images * luma).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
            images = (mean + (images - mean) * factor(self.contrast)).clamp(0.0, 1.0)
        if self.saturation:
            grey = (images * luma).sum(dim=1, keepdim=True)
            images = (grey + (images - grey) * factor(self.saturation)).clamp(0.0, 1.0)
        return images


def _uniform(
    shape: tuple[int, ...],
    like: Tensor,
    generator: torch.Generator | None,
    low: float,
    high: float,
) -> Tensor:
    values = torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)
    return low + (high - low) * values
