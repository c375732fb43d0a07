# SPDX-License-Identifier: MIT
"""Processes and devices of a run, by Hugging Face accelerate.

`accelerate launch` starts the processes. Each draws the same batches and computes its own part of
them, so that the number of processes changes how long a step takes, and not what is learnt.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NoReturn, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    gather_object,
    parse_flag_from_env,
)
from torch import Tensor, distributed

from vla_core.errors import ConfigError
from vla_core.inference.policy import find_device

Value = TypeVar("Value")

# The other processes wait for the one that rolls out in the simulation; NCCL's own is 10 minutes.
_LONGEST_WAIT = timedelta(hours=2)


def start_accelerator(
    device: str, batch_size: int, accumulation: int, readers: int = 0
) -> Accelerator:
    """Join the other processes.

    Args:
        device: ``'cpu'``, ``'cuda'``, or ``'auto'`` for CUDA where there is one.
        batch_size: Frames per step, of all processes together.
        accumulation: Parts that each process computes its frames in.
        readers: Readers of a stream, of all processes together.

    Raises:
        ConfigError: The device is not there, the batch cannot be divided equally, or
            accelerate would divide the weights.
    """
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):  # On CPUs accelerate itself fails over it.
        _refuse(DistributedType.FSDP)
    accelerator = Accelerator(
        cpu=find_device(device).type == "cpu",
        mixed_precision="no",  # The recipe decides, whatever `accelerate config` was told.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=_LONGEST_WAIT),
        ],
    )
    kind = accelerator.distributed_type
    if kind not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        _refuse(kind)
    parts = accelerator.num_processes * accumulation
    if batch_size % parts:
        raise ConfigError(
            f"batch_size is {batch_size}, which {accelerator.num_processes} processes with "
            f"gradient_accumulation {accumulation} cannot divide equally; "
            f"set batch_size={max(batch_size // parts, 1) * parts}."
        )
    if readers % accelerator.num_processes:
        raise ConfigError(
            f"stream.readers is {readers}, which {accelerator.num_processes} processes cannot "
            f"divide equally; set stream.readers={accelerator.num_processes} or a multiple."
        )
    return accelerator


def own_parts(accelerator: Accelerator, rows: Tensor, accumulation: int) -> tuple[Tensor, ...]:
    """Return this process's rows of a batch, int64 [B], in as many parts as it computes."""
    own = rows.chunk(accelerator.num_processes)[accelerator.process_index]
    return own.chunk(accumulation)


def sum_over_processes(accelerator: Accelerator, figures: dict[str, float]) -> dict[str, float]:
    """Return the sum over all processes of figures that each of them has."""
    if accelerator.num_processes == 1:
        return figures
    # MPS and some other devices have no float64.
    dtype = torch.float64 if accelerator.device.type in ("cpu", "cuda") else torch.float32
    values = torch.tensor(list(figures.values()), dtype=dtype, device=accelerator.device)
    return dict(zip(figures, accelerator.reduce(values, "sum").tolist(), strict=True))


def from_all_processes(accelerator: Accelerator, value: Value) -> list[Value]:
    """Return the value of every process, by its index."""
    return gather_object([value]) if accelerator.num_processes > 1 else [value]


def leave_processes() -> None:
    """Leave the other processes at the end of a run, as NCCL wants it."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _refuse(kind: DistributedType) -> NoReturn:
    raise ConfigError(
        f"processes are distributed by {kind.value}, but whether they divide the weights is said "
        "in the recipe; start them by accelerate launch --multi_gpu, and set shard_weights=true."
    )
