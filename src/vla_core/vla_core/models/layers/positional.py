# SPDX-License-Identifier: MIT
"""Sinusoidal embeddings of times, sequence positions and grid cells."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vla_core.errors import ConfigError


def sinusoidal_embedding(positions: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Embed numbers by sines and cosines of geometrically spaced periods.

    Args:
        positions: Times or indices, any shape [...].
        dim: Width of the embedding, even.
        max_period: Longest period over 2 pi (Vaswani et al., 2017, arXiv:1706.03762).

    Returns:
        Values in [-1, 1], float32 [..., dim]: first the sines, then the cosines.

    Raises:
        ConfigError: If dim is odd.
    """
    if dim < 2 or dim % 2:
        raise ConfigError(f"dim of a sinusoidal embedding must be even, got {dim}.")
    exponents = torch.arange(dim // 2, device=positions.device, dtype=torch.float32) / (dim // 2)
    angles = positions.to(torch.float32).unsqueeze(-1) * max_period**-exponents
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def grid_embedding(rows: int, columns: int, dim: int) -> Tensor:
    """Embed the cells of a grid: half of the width tells the row and half the column.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        dim: Width of the embedding, a multiple of 4.

    Returns:
        One embedding per cell, row-major, float32 [rows * columns, dim].

    Raises:
        ConfigError: If dim is no multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"dim of a grid embedding must be a multiple of 4, got {dim}.")
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    parts = [sinusoidal_embedding(index.flatten(), dim // 2) for index in (row, column)]
    return torch.cat(parts, dim=-1)


def interleaved_embedding(positions: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Embed numbers as `sinusoidal_embedding` does, but with sine and cosine by turns.

    Args:
        positions: Positions, any shape [...].
        dim: Width of the embedding, even.
        max_period: Longest period over 2 pi.

    Returns:
        Values in [-1, 1], float32 [..., dim]: sine, cosine, sine, ...

    Raises:
        ConfigError: If dim is odd.
    """
    sines, cosines = sinusoidal_embedding(positions, dim, max_period).chunk(2, dim=-1)
    return torch.stack([sines, cosines], dim=-1).flatten(-2)


def feature_map_embedding(rows: int, columns: int, dim: int) -> Tensor:
    """Embed the cells of a feature map of any size, as DETR does (arXiv:2005.12872).

    Rows and columns count from 1 and are scaled so that the last one is at 2 pi: a cell is told
    by where it lies in the image, not by how many cells come before it.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        dim: Width of the embedding, a multiple of 4.

    Returns:
        One embedding per cell, row-major, float32 [rows * columns, dim]: first of the row, then
        of the column.

    Raises:
        ConfigError: If dim is no multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"dim of a feature map embedding must be a multiple of 4, got {dim}.")
    row, column = (
        torch.arange(1, size + 1) / (size + 1e-6) * (2.0 * math.pi) for size in (rows, columns)
    )
    parts = [
        interleaved_embedding(row, dim // 2).repeat_interleave(columns, dim=0),
        interleaved_embedding(column, dim // 2).repeat(rows, 1),
    ]
    return torch.cat(parts, dim=-1)
