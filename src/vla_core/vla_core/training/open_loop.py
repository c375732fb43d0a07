# SPDX-License-Identifier: MIT
"""Open-loop error: how far predicted chunks are from those of the demonstrations."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from vla_core.models.frameworks import AbstractVLA
from vla_core.training.frame_inputs import FrameInputs
from vla_core.training.training_data import TrainingData


@torch.no_grad()
def open_loop_error(
    model: AbstractVLA,
    inputs: FrameInputs,
    data: TrainingData,
    frames: Tensor,
    *,
    batch_size: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Predict chunks and compare them with the recorded actions, padding left out.

    The global random generator is left untouched.

    Args:
        model: Policy; its mode is left as it was.
        inputs: Images or features of the frames.
        data: Recorded actions.
        frames: Frames to try, int64 [V].
        batch_size: Frames at once.
        seed: Of the sampler's noise.

    Returns:
        ``error``, the mean absolute difference of normalised actions, and ``joints``, the same in
        robot units by joint.
    """
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    joints = data.pipeline.contract.action_names
    normalised = torch.zeros(len(joints), dtype=torch.float64)
    physical = torch.zeros(len(joints), dtype=torch.float64)
    num_steps = 0
    for part in frames.split(batch_size):
        target = data.targets(part)
        batch = inputs.inputs(part) | data.states(part)
        predicted = model.predict_chunk(**send_to_device(batch, device), generator=generator)
        predicted = predicted.double().cpu()
        true, valid = target["actions"].double(), ~target["action_is_pad"]
        unnormalize = data.pipeline.unnormalize_actions
        normalised += (predicted - true).abs()[valid].sum(0)
        physical += (unnormalize(predicted) - unnormalize(true)).abs()[valid].sum(0)
        num_steps += int(valid.sum())
    model.train(was_training)
    return {
        "error": float(normalised.mean() / num_steps),
        "joints": dict(zip(joints, (physical / num_steps).tolist(), strict=True)),
    }
