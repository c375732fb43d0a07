# SPDX-License-Identifier: MIT
"""Weights that are divided among the processes, by FSDP2 of PyTorch.

Each process keeps its part of every weight, and of its gradient, average and optimiser state. What
leaves the processes is whole: checkpoints and policies are those of one process.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError
from vla_core.models.frameworks import AbstractVLA


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks that a model repeats, such as those of a transformer."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return [block for blocks in lists for block in blocks]


def shard(model: nn.Module, device: str) -> None:
    """Divide the weights among the processes, which all have the same.

    A linear layer of a repeated block is whole only while it computes, all other weights during a
    step. It is the layers that are divided and not the blocks, as several models call parts of a
    block, or pass on keys and values that leave it beside its output.

    Args:
        model: Changed in place; its parameters are others afterwards.
        device: Kind of the device of each process, such as ``'cuda'``.

    Raises:
        ConfigError: PyTorch is too old, or the model has a weight that cannot be divided.
    """
    try:
        from torch.distributed import get_world_size
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise ConfigError(
            f"shard_weights needs PyTorch 2.6 or newer, but this is {torch.__version__}; update "
            "it, or set shard_weights=false."
        ) from error
    scalars = [name for name, parameter in model.named_parameters() if parameter.dim() == 0]
    if scalars:
        raise ConfigError(
            f"shard_weights divides weights by rows, but {', '.join(scalars)} of "
            f"{type(model).__name__} has no dimension; set shard_weights=false."
        )
    mesh = init_device_mesh(device, (get_world_size(),))
    uses = Counter(map(id, (p for _, p in model.named_parameters(remove_duplicate=False))))
    layers = {
        layer: None
        for block in repeated_blocks(model)
        for layer in block.modules()
        if type(layer) is nn.Linear and all(uses[id(p)] == 1 for p in layer.parameters())
    }
    # What a linear layer returns may be a view; no model changes it in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)


def reshard(model: nn.Module) -> None:
    """Divide all weights again after a backward pass; the next step needs the new ones.

    PyTorch itself leaves those whole that a recomputed part needs once their gradient is done.
    """
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gather(value: Any, *, keep: bool = True) -> Any:
    """Return nested mappings with whole tensors in the place of divided ones.

    All processes call it together.

    Args:
        value: Mappings, tensors and other values.
        keep: Whether this process needs them; otherwise None is in their place.
    """
    if isinstance(value, Mapping):
        return {key: gather(inner, keep=keep) for key, inner in value.items()}
    if not _is_divided(value):
        return value
    whole = value.full_tensor()
    return whole.cpu() if keep else None


def divide(whole: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor divided as another one is, if that is divided.

    All processes call it together.
    """
    if not _is_divided(like):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)


class WholeCopy:
    """A model with whole weights, beside one that is divided.

    Args:
        model: The model before it is divided.
        keep: Whether this process has the copy, in its host memory.
    """

    def __init__(self, model: AbstractVLA, *, keep: bool) -> None:
        self._copy = copy.deepcopy(model) if keep else None

    @contextmanager
    def filled(self, divided: nn.Module, device: torch.device) -> Iterator[AbstractVLA | None]:
        """Return the copy with the present weights, or None, for the time of a ``with`` block.

        All processes enter it together.

        Args:
            divided: The model whose weights are taken over.
            device: Where the copy is meanwhile.
        """
        self._fill(divided)
        if self._copy is None:
            yield None
            return
        try:
            yield self._copy.to(device)
        finally:
            self._copy.cpu()

    @torch.no_grad()
    def _fill(self, divided: nn.Module) -> None:
        own = {} if self._copy is None else self._copy.state_dict()
        for name, tensor in divided.state_dict().items():  # One after the other, to save memory.
            whole = gather(tensor, keep=bool(own))
            if own:
                own[name].copy_(whole)


def _is_divided(value: object) -> bool:
    # torch.distributed.tensor is younger than the oldest PyTorch that trains without it.
    return hasattr(value, "full_tensor")
