# SPDX-License-Identifier: MIT
"""Low-rank adapters in the backbone of any framework, by peft.

The backbone itself stays as it is. The policy that is saved has the adapters added to its
weights, so that neither its size nor its speed changes, and no robot needs peft.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from vla_core.errors import ConfigError
from vla_core.models.frameworks import AbstractVLA
from vla_core.training.recipe_sections import LoraRecipe

_ADAPTER = "default"


def add_adapters(model: AbstractVLA, recipe: LoraRecipe) -> None:
    """Put adapters beside the linear layers of the backbone, which alone are trained in it.

    Args:
        model: Model, changed in place.
        recipe: Rank, scale and dropout.

    Raises:
        ConfigError: peft is not installed, or the backbone has no linear layer or has adapters.
    """
    peft = _import_peft()
    layers = dict(model.backbone.named_modules())
    if any(isinstance(layer, peft.tuners.lora.LoraLayer) for layer in layers.values()):
        raise ConfigError(
            "lora.rank is given, but the vlm brings adapters of its own; leave out either "
            "lora.rank or vlm.lora_rank."
        )
    names = [name for name, layer in layers.items() if type(layer) is nn.Linear]
    if not names:
        raise ConfigError(
            f"lora.rank is given, but the backbone, {type(model.backbone).__name__}, has no "
            "linear layers to adapt; set lora.rank=0."
        )
    model.unfreeze_backbone()
    model.backbone.requires_grad_(False)
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.rank if recipe.alpha is None else recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules="|".join(re.escape(name) for name in names),
    )
    peft.inject_adapter_in_model(config, model.backbone, adapter_name=_ADAPTER)


@contextmanager
def adapters_merged(model: AbstractVLA) -> Iterator[None]:
    """Add the adapters to the weights, and take them out of the model, for a ``with`` block.

    Afterwards every weight is exactly what it was.
    """
    peft = _import_peft()
    layers = [
        (name, layer)
        for name, layer in model.backbone.named_modules()
        if isinstance(layer, peft.tuners.lora.LoraLayer)
    ]
    with ExitStack() as stack:
        for name, layer in layers:
            parent, _, child = name.rpartition(".")
            stack.enter_context(_merged(model.backbone.get_submodule(parent), child, layer))
        yield


@contextmanager
def _merged(parent: nn.Module, child: str, layer: Any) -> Iterator[None]:
    base = layer.get_base_layer()
    weight = base.weight.data
    base.weight.data = weight + layer.get_delta_weight(_ADAPTER).to(weight.dtype)
    setattr(parent, child, base)
    try:
        yield
    finally:
        setattr(parent, child, layer)
        base.weight.data = weight


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            "lora.rank needs peft, which is not installed; run: pip install 'vla_core[hf]'."
        ) from error
    return peft
