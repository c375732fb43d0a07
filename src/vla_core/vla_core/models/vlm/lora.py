# SPDX-License-Identifier: MIT
"""Low-rank adapters (Hu et al., 2021, arXiv:2106.09685) in a language model, by peft."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from vla_core.errors import ConfigError

_ADAPTER_KEY = "lora_"


def inject_lora(
    model: nn.Module, language_path: str, rank: int, alpha: float | None, dropout: float
) -> None:
    """Put adapters beside all linear layers of the language model; only they stay trainable.

    Args:
        model: The whole model, changed in place.
        language_path: Where in it the language model lies.
        rank: Rank of the adapters.
        alpha: Their scale times `rank`; None for min(rank, 16), as OpenVLA
            (arXiv:2406.09246) has it.
        dropout: Dropout before an adapter.

    Raises:
        ConfigError: If peft is not installed, or the rank is not positive.
    """
    if rank < 1:
        raise ConfigError(f"lora_rank must be at least 1 to add adapters, got {rank}.")
    peft = _import_peft()
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=min(rank, 16) if alpha is None else alpha,
        lora_dropout=dropout,
        # The MLPs of BART name their layers fc1 and fc2, the others gate_proj, up_proj, down_proj.
        target_modules=rf"{re.escape(language_path)}\.(.*\.)?layers\..*(_proj|fc[12])",
    )
    peft.inject_adapter_in_model(config, model)


def is_lora(parameter_name: str) -> bool:
    """Tell whether a parameter belongs to an adapter."""
    return _ADAPTER_KEY in parameter_name


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            "lora_rank needs peft, which is not installed; run: pip install 'vla_core[hf]'."
        ) from error
    return peft
