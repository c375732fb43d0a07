# SPDX-License-Identifier: MIT
"""Vision encoders: from the image of one camera to a map of features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError, ShapeError, UnknownNameError
from vla_core.models.keywords import check_keywords
from vla_core.models.layers.backbone import Backbone

# Mean and standard deviation of the images that most published encoders were trained on.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class AbstractVisionEncoder(Backbone, ABC):
    """Turns images [B, 3, H, W] into maps [B, output_dim, h, w].

    Subclasses set `name` (as registered) and `output_dim`, and implement `forward` and
    `get_config`.
    """

    name: str
    output_dim: int

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images: One camera's frames, float [B, 3, H, W]; in [0, 1] unless the encoder was
                built to take images that are already normalised.

        Returns:
            Features, [B, output_dim, h, w].

        Raises:
            ShapeError: If the images are too small.
        """

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `name`."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AbstractVisionEncoder:
        """Build an untrained encoder from what `get_config` returned.

        Raises:
            ConfigError: If the configuration has keys that the encoder does not know.
        """
        keywords = {key: value for key, value in config.items() if key != "name"}
        check_keywords(cls, keywords)
        return cls(**keywords)


EncoderType = TypeVar("EncoderType", bound="type[AbstractVisionEncoder]")

_ENCODERS: dict[str, type[AbstractVisionEncoder]] = {}


def register_vision_encoder(name: str) -> Callable[[EncoderType], EncoderType]:
    """Return a class decorator that lets checkpoints and `get_vision_encoder` find an encoder.

    Raises:
        ConfigError: If another class already has the name.
    """

    def register(encoder: EncoderType) -> EncoderType:
        if _ENCODERS.get(name, encoder) is not encoder:
            raise ConfigError(
                f"vision encoder {name!r} is already registered by {_ENCODERS[name].__name__}; "
                "choose another name."
            )
        encoder.name = name
        _ENCODERS[name] = encoder
        return encoder

    return register


def available_vision_encoders() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_ENCODERS))


def get_vision_encoder(name: str, **keywords: Any) -> AbstractVisionEncoder:
    """Build a vision encoder by name.

    Raises:
        ConfigError: If a keyword is unknown.
        UnknownNameError: If the name is not registered.
    """
    return vision_encoder_from_config({"name": name, **keywords})


def vision_encoder_from_config(config: Mapping[str, Any]) -> AbstractVisionEncoder:
    """Build the vision encoder that a configuration names.

    Raises:
        ConfigError: If the configuration names none or has unknown keys.
        UnknownNameError: If the name is not registered.
    """
    if "name" not in config:
        raise ConfigError(f"vision_encoder must have a 'name', got keys {sorted(config)}.")
    name = config["name"]
    if name not in _ENCODERS:
        names = ", ".join(map(repr, available_vision_encoders()))
        raise UnknownNameError(f"vision encoder {name!r} is not registered; available: {names}.")
    return _ENCODERS[name].from_config(config)


def as_vision_encoder(vision_encoder: Any) -> AbstractVisionEncoder:
    """Return the encoder itself, or the one that a name or a configuration stands for.

    Raises:
        ConfigError: If it is none of these.
        UnknownNameError: If the name is not registered.
    """
    if isinstance(vision_encoder, AbstractVisionEncoder):
        return vision_encoder
    if isinstance(vision_encoder, str):
        return get_vision_encoder(vision_encoder)
    if isinstance(vision_encoder, Mapping):
        return vision_encoder_from_config(vision_encoder)
    raise ConfigError(
        "vision_encoder must be an AbstractVisionEncoder or the name of one "
        f"({', '.join(map(repr, available_vision_encoders()))}), "
        f"got {type(vision_encoder).__name__}."
    )


class ImageNormalization(nn.Module):
    """Subtracts the mean of each channel and divides by its standard deviation.

    Args:
        mean: Mean of each channel of images in [0, 1]; None to leave images as they are.
        std: Standard deviation of each channel.

    Raises:
        ConfigError: If the mean or the deviation does not have three values.
    """

    def __init__(
        self,
        mean: tuple[float, ...] | None = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        for name, values in (("mean", (0.0,) * 3 if mean is None else mean), ("std", std)):
            if len(values) != 3:
                raise ConfigError(f"image {name} must have 3 values, got {list(values)}.")
        self.is_identity = mean is None
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean or (0.0,) * 3).view(3, 1, 1), False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images [..., 3, H, W]."""
        return images if self.is_identity else (images - self.mean) / self.std


@register_vision_encoder("patch")
class PatchVisionEncoder(AbstractVisionEncoder):
    """A stem of strided convolutions, one feature per patch of 16 pixels.

    The stem of early convolutions (Xiao et al., 2021, arXiv:2106.14881) that Octo reads images
    with, small enough to be trained with the policy.

    Args:
        output_dim: Width of the features.
        hidden_dims: Channels of the four convolutions, each of which halves the image.

    Raises:
        ConfigError: If there are not four convolutions or their groups do not fit.
    """

    _STRIDE = 16

    def __init__(
        self, output_dim: int = 256, hidden_dims: tuple[int, ...] = (32, 64, 128, 256)
    ) -> None:
        super().__init__()
        if len(hidden_dims) != 4 or any(width < 8 or width % 8 for width in hidden_dims):
            raise ConfigError(f"hidden_dims must be four multiples of 8, got {list(hidden_dims)}.")
        self.output_dim = output_dim
        self._config = {
            "name": self.name,
            "output_dim": output_dim,
            "hidden_dims": list(hidden_dims),
        }
        layers: list[nn.Module] = []
        width = 3
        for hidden_dim in hidden_dims:
            # Group statistics belong to one image, so that rows do not depend on each other.
            layers += [
                nn.Conv2d(width, hidden_dim, 3, stride=2, padding=1),
                nn.GroupNorm(hidden_dim // 8, hidden_dim),
                nn.ReLU(),
            ]
            width = hidden_dim
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, output_dim, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Encode images in [0, 1], [B, 3, H, W], as [B, output_dim, H / 16, W / 16]."""
        check_image_size(images, self._STRIDE)
        pixels = images.to(next(self.parameters()).dtype)
        return self.layers(2.0 * pixels - 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `name`."""
        return dict(self._config)


def check_image_size(images: Tensor, smallest: int) -> None:
    """Refuse images that would leave no feature.

    Raises:
        ShapeError: If a side is shorter than `smallest`.
    """
    if min(images.shape[-2:]) < smallest:
        raise ShapeError(
            f"images must be at least {smallest} px high and wide, "
            f"got {list(images.shape[-2:])} (height, width)."
        )
