# SPDX-License-Identifier: MIT
"""ResNet-18 and -34 (He et al., 2016, arXiv:1512.03385), without torchvision.

The names of the parameters are torchvision's, so that its weights load as they are. Batch
normalisation is frozen, as in DETR and ACT: its statistics and scales are constants that come with
the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.utils.checkpoint import checkpoint

from vla_core.errors import ConfigError
from vla_core.models.encoders.vision import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AbstractVisionEncoder,
    ImageNormalization,
    check_image_size,
    register_vision_encoder,
)
from vla_core.models.weights import load_tensors, read_tensors

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


@register_vision_encoder("resnet")
class ResNetEncoder(AbstractVisionEncoder):
    """The convolutional part of a ResNet of basic blocks; one feature per 32 pixels.

    Args:
        depth: 18 or 34.
        mean: Mean of each channel, subtracted from images in [0, 1]; None if they are already
            normalised.
        std: Standard deviation of each channel, by which they are divided.
        width: Channels of the first stage; 64 as published.

    Raises:
        ConfigError: If there is no ResNet of basic blocks of this depth.
    """

    def __init__(
        self,
        depth: int = 18,
        mean: tuple[float, ...] | None = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        width: int = 64,
    ) -> None:
        super().__init__()
        if depth not in _BLOCKS:
            raise ConfigError(f"depth of a ResNet must be one of {sorted(_BLOCKS)}, got {depth}.")
        widths = [width * factor for factor in (1, 2, 4, 8)]
        self.output_dim = widths[-1]
        self._config = {
            "name": self.name,
            "depth": depth,
            "mean": None if mean is None else list(mean),
            "std": list(std),
            "width": width,
        }
        self.normalize = ImageNormalization(mean, std)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(width, widths[0], _BLOCKS[depth][0], stride=1)
        self.layer2 = _stage(widths[0], widths[1], _BLOCKS[depth][1], stride=2)
        self.layer3 = _stage(widths[1], widths[2], _BLOCKS[depth][2], stride=2)
        self.layer4 = _stage(widths[2], widths[3], _BLOCKS[depth][3], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] as [B, output_dim, H / 32, W / 32]."""
        check_image_size(images, 2)
        x = self.maxpool(relu(self.bn1(self.conv1(self.normalize(images)))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            if self.gradient_checkpointing and self.training:
                x = checkpoint(stage, x, use_reentrant=False)
            else:
                x = stage(x)
        return x

    def load_torchvision(self, path: str | Path) -> None:
        """Load the weights of torchvision's ResNet of the same depth, without its classifier.

        Args:
            path: A safetensors file with torchvision's names.

        Raises:
            CheckpointError: If the file is missing or damaged, or a weight does not fit.
        """
        tensors = {
            key: value
            for key, value in read_tensors(Path(path)).items()
            if not key.startswith("fc.") and not key.endswith("num_batches_tracked")
        }
        load_tensors(self, tensors, Path(path))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `name`."""
        return dict(self._config)


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose statistics, scale and shift are constants.

    Args:
        dim: Number of channels.
    """

    _EPS = 1e-5

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight: Tensor
        self.bias: Tensor
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("weight", torch.ones(dim))
        self.register_buffer("bias", torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, dim, h, w]."""
        scale = self.weight * (self.running_var + self._EPS).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class _BasicBlock(nn.Module):
    def __init__(self, input_dim: int, output_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_dim, output_dim, 3, stride, padding=1, bias=False)
        self.bn1 = FrozenBatchNorm(output_dim)
        self.conv2 = nn.Conv2d(output_dim, output_dim, 3, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(output_dim)
        self.downsample: nn.Module | None = None
        if stride != 1 or input_dim != output_dim:
            self.downsample = nn.Sequential(
                nn.Conv2d(input_dim, output_dim, 1, stride, bias=False),
                FrozenBatchNorm(output_dim),
            )

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(x)) + skip)


def _stage(input_dim: int, output_dim: int, num_blocks: int, stride: int) -> nn.Sequential:
    others = (_BasicBlock(output_dim, output_dim, 1) for _ in range(num_blocks - 1))
    return nn.Sequential(_BasicBlock(input_dim, output_dim, stride), *others)
