# SPDX-License-Identifier: MIT
"""Pre-training of a small VLM on the simulation: find the block that the instruction asks for.

A grounding head reads the image tokens of each camera and must say whether that block is seen, in
which token's cell and where inside it, and at what pose it lies. Where the instruction names two
blocks, it is the one whose turn it is as things stand. The head is dropped afterwards; what
remains is a backbone whose tokens carry the language and the position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from vla_core.errors import ConfigError
from vla_core.models.vlm.base import AbstractVLM, VLMOutput
from vla_core.sim.grounding import POSE_DIM, POSITION_SCALE_M, GroundingData
from vla_core.sim.scene import COLOURS

_LOSS_WEIGHTS = {"cell": 1.0, "offset": 4.0, "pose": 4.0, "visible": 0.3}


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingOptions:
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps.
        batch_size: Scenes a step; each gives all cameras one instruction.
        learning_rate: Peak of a warm-up and cosine schedule.
        weight_decay: Of AdamW.
        use_bfloat16: Whether the forward pass is autocast to bfloat16.
        seed: Of the batches and instructions.
    """

    steps: int = 4500
    batch_size: int = 48
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    use_bfloat16: bool = True
    seed: int = 0


class GroundingHead(nn.Module):
    """Reads cell, offset, visibility and pose of the named block from a camera's image tokens."""

    def __init__(self, hidden_size: int, num_cameras: int) -> None:
        """Make one pose read-out per camera."""
        super().__init__()
        self.cell = nn.Linear(hidden_size, 1)
        self.offset = nn.Linear(hidden_size, 2)
        self.visibility = nn.Linear(hidden_size, 1)
        self.pose = nn.ModuleList(
            nn.Sequential(
                nn.Linear(hidden_size, hidden_size), nn.SiLU(), nn.Linear(hidden_size, POSE_DIM)
            )
            for _ in range(num_cameras)
        )

    def forward(self, output: VLMOutput) -> dict[str, Tensor]:
        """Return 'cell' [B, N, I], 'offset' [B, N, I, 2], 'visible' [B, N], 'pose' [B, N, 5]."""
        tokens = output.image_tokens().float()  # [B, N, I, D]
        cell = self.cell(tokens).squeeze(-1)
        found = (cell.softmax(-1).unsqueeze(-1) * tokens).sum(2)  # [B, N, D]
        pose = torch.stack([head(found[:, n]) for n, head in enumerate(self.pose)], dim=1)
        return {
            "cell": cell,
            "offset": self.offset(tokens),
            "visible": self.visibility(found).squeeze(-1),
            "pose": pose,
        }


def grounding_losses(
    prediction: dict[str, Tensor],
    visible: Tensor,
    centre: Tensor,
    pose: Tensor,
    grid: tuple[int, int],
) -> dict[str, Tensor]:
    """Compare what the head read with the labels of the named block.

    Args:
        prediction: Output of GroundingHead.
        visible: Whether a camera sees the block, bool [B, N].
        centre: Where, as (x, y) in [0, 1], [B, N, 2].
        pose: Scaled pose, [B, N, POSE_DIM].
        grid: Rows and columns of the image tokens.

    Returns:
        'cell' (cross-entropy), 'offset' and 'pose' (mean square), 'visible' (binary
        cross-entropy): scalars; the first three over the cameras that see the block.
    """
    rows, columns = grid
    size = centre.new_tensor([columns, rows])
    scaled = centre * size
    corner = torch.minimum(scaled.floor(), size - 1)
    cell = (corner[..., 1] * columns + corner[..., 0]).long()
    offset = prediction["offset"].gather(2, cell[..., None, None].expand(-1, -1, 1, 2)).squeeze(2)
    return {
        "cell": F.cross_entropy(prediction["cell"][visible], cell[visible]),
        "offset": F.mse_loss(offset[visible], (scaled - corner - 0.5)[visible]),
        "pose": F.mse_loss(prediction["pose"][visible], pose[visible]),
        "visible": F.binary_cross_entropy_with_logits(prediction["visible"], visible.float()),
    }


class GroundingPretrainer:
    """Trains a VLM and a grounding head on rendered scenes."""

    def __init__(
        self,
        vlm: AbstractVLM,
        data: GroundingData,
        wordings: Sequence[Sequence[str]],
        options: PretrainingOptions,
    ) -> None:
        """Hold the data in memory and set up the optimiser.

        Args:
            vlm: The model to train.
            data: The scenes.
            wordings: Every instruction for each of the targets of `data.asked`.
            options: How to train.

        Raises:
            ConfigError: If there are fewer scenes than a batch.
        """
        if len(data) < options.batch_size:
            raise ConfigError(
                f"batch_size is {options.batch_size} but there are only {len(data)} "
                "scenes; render more or lower it."
            )
        self.vlm = vlm
        self.head = GroundingHead(vlm.hidden_size, data.images.shape[1])
        self.options = options
        self._data = data
        self._wordings = wordings
        self._rng = np.random.default_rng(options.seed)
        parameters = [*vlm.parameters(), *self.head.parameters()]
        self._parameters = parameters
        self._optimizer = torch.optim.AdamW(
            parameters, lr=options.learning_rate, weight_decay=options.weight_decay
        )
        warm_up = max(1, options.steps // 20)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda step: min(
                (step + 1) / warm_up, 0.5 * (1.0 + math.cos(math.pi * step / options.steps))
            ),
        )

    @property
    def learning_rate(self) -> float:
        """The present learning rate."""
        return float(self._schedule.get_last_lr()[0])

    def run(self, on_step: Callable[[int, dict[str, float]], None]) -> None:
        """Train; `on_step(step, losses)` follows every step, from 1, with 'total' among them."""
        self.vlm.train()
        for step in range(1, self.options.steps + 1):
            rows = self._rng.integers(0, len(self._data), self.options.batch_size)
            losses = self._losses(rows)
            weighted = [losses[name] * weight for name, weight in _LOSS_WEIGHTS.items()]
            losses["total"] = torch.stack(weighted).sum()
            self._optimizer.zero_grad(set_to_none=True)
            losses["total"].backward()
            nn.utils.clip_grad_norm_(self._parameters, 1.0)
            self._optimizer.step()
            self._schedule.step()
            on_step(step, {name: loss.item() for name, loss in losses.items()})

    @torch.no_grad()
    def evaluate(self, data: GroundingData) -> dict[str, float]:
        """Measure the head on scenes that were not trained on.

        Args:
            data: Held-out scenes.

        Returns:
            'cell_accuracy', 'visible_accuracy', 'wrong_colour' (share of answers that lie in
            another block's cell), and the median and 95th percentile of the position error of
            the first camera and of the last, m.
        """
        self.vlm.eval()
        rng = np.random.default_rng(0)
        hits, seen_hits, wrong, errors = [], [], [], []
        for start in range(0, len(data), 64):
            rows = np.arange(start, min(start + 64, len(data)))
            output, prediction, colours = self._predict(data, rows, rng)
            visible, centre, pose = _labels(data, rows, colours)
            cell = _cell_of(centre, output.image_grid)
            answer = prediction["cell"].argmax(-1)
            hits.append((answer == cell)[visible])
            seen_hits.append((prediction["visible"] > 0) == visible)
            for other in range(1, len(COLOURS)):
                o_visible, o_centre, _ = _labels(data, rows, (colours + other) % len(COLOURS))
                o_cell = _cell_of(o_centre, output.image_grid)
                wrong.append(((answer == o_cell) & (o_cell != cell) & o_visible)[visible])
            error = (prediction["pose"] - pose)[..., :2].norm(dim=-1) * POSITION_SCALE_M
            errors.append(torch.where(visible, error, torch.nan))
        self.vlm.train()
        error = torch.cat(errors).numpy()
        figures = {
            "cell_accuracy": torch.cat(hits).float().mean().item(),
            "visible_accuracy": torch.cat(seen_hits).float().mean().item(),
            "wrong_colour": torch.cat(wrong).float().mean().item() * (len(COLOURS) - 1),
        }
        for name, camera in (("front", 0), ("wrist", -1)):
            figures[f"{name}_error_median_m"] = float(np.nanmedian(error[:, camera]))
            figures[f"{name}_error_95_m"] = float(np.nanpercentile(error[:, camera], 95))
        return figures

    def _losses(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        output, prediction, colours = self._predict(self._data, rows, self._rng)
        visible, centre, pose = _labels(self._data, rows, colours)
        assert output.image_grid is not None
        return grounding_losses(prediction, visible, centre, pose, output.image_grid)

    def _predict(
        self,
        data: GroundingData,
        rows: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> tuple[VLMOutput, dict[str, Tensor], NDArray[np.int64]]:
        """Draw instructions; return what is read from them and the blocks that they ask for."""
        images = torch.from_numpy(data.images[rows]).permute(0, 1, 4, 2, 3).float() / 255.0
        targets = rng.integers(0, len(self._wordings), len(rows))
        numbers = rng.integers(0, len(self._wordings[0]), len(rows))
        texts = [self._wordings[t][n] for t, n in zip(targets, numbers, strict=True)]
        # The fused CPU kernel is slow backwards for sequences as short as these.
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=self.options.use_bfloat16),
            sdpa_kernel(SDPBackend.MATH),
        ):
            output = self.vlm.encode(images, texts)
        return output, self.head(output), data.asked[rows, targets]


def _labels(
    data: GroundingData, rows: NDArray[np.int64], colours: NDArray[np.int64]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return visible [B, N], centre [B, N, 2] and pose [B, N, POSE_DIM] of one colour a row."""
    return (
        torch.from_numpy(data.visible[rows, :, colours]),
        torch.from_numpy(data.centre[rows, :, colours]),
        torch.from_numpy(data.pose[rows, :, colours]),
    )


def _cell_of(centre: Tensor, grid: tuple[int, int] | None) -> Tensor:
    assert grid is not None
    rows, columns = grid
    column = (centre[..., 0] * columns).long().clamp(max=columns - 1)
    row = (centre[..., 1] * rows).long().clamp(max=rows - 1)
    return row * columns + column
