# SPDX-License-Identifier: MIT
"""What a directory or a repository of the Hugging Face hub holds for a model of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vla_core.errors import CheckpointError

Loaded = TypeVar("Loaded")

# Tables that older versions of transformers stored and newer ones compute.
_COMPUTED = ("position_ids", "inv_freq")
_SHOWN = 3


def from_cache_or_hub(source: str, load: Callable[[str], Loaded]) -> Loaded:
    """Load a directory, or a repository from the cache, and from the hub if that has not all.

    Asking the hub first would wait for it on every robot without internet.

    Args:
        source: The directory or the name of the repository.
        load: Loads a directory or a repository.

    Raises:
        OSError: If neither has it.
    """
    cached = _cached_folder(source)
    if cached is not None:
        try:
            return load(cached)
        except (OSError, ValueError):  # Something is not in the cache.
            pass
    return load(source)


def _cached_folder(source: str) -> str | None:
    from huggingface_hub import snapshot_download

    if Path(source).is_dir():
        return None
    try:
        return snapshot_download(source, local_files_only=True)
    except (OSError, ValueError):  # Not in the cache, or not the name of a repository.
        return None


def unreachable(what: str, source: str, error: Exception) -> str:
    """Return the message for files that the Hugging Face hub or a directory did not give."""
    reason = (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
    if Path(source).is_dir():
        return f"{what} {source!r} could not be loaded ({reason}). Copy or save the folder again."
    return (
        f"{what} {source!r} could not be loaded ({reason}). If it is a "
        f"repository: connect to the internet, or fetch it elsewhere with `hf download {source}` "
        "and give the folder as pretrained='<folder>'; for a gated one accept its licence on "
        "huggingface.co and set HF_TOKEN."
    )


def read_pretrained(name: str, model_class: Any, source: str, dtype: torch.dtype) -> nn.Module:
    """Return the model of a directory or repository, all of whose weights are from there.

    Args:
        name: The backend's name, for the report.
        model_class: The model's class in transformers.
        source: The directory or the name of the repository.
        dtype: Type of the weights.

    Raises:
        OSError: If `source` is out of reach.
        CheckpointError: If it holds another architecture, or weights that are missing, misshapen
            or unknown: transformers would leave them random or drop them.
    """

    def load(place: str) -> tuple[nn.Module, dict[str, Any]]:
        stored, _ = model_class.config_class.get_config_dict(place)
        kind, expected = stored.get("model_type"), model_class.config_class.model_type
        if kind != expected:
            raise CheckpointError(
                f"{source} holds a model of type {kind!r}, but vlm {name!r} needs {expected!r}; "
                "give another folder or another vlm."
            )
        return model_class.from_pretrained(
            place,
            dtype=dtype,
            attn_implementation="sdpa",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )

    model, found = from_cache_or_hub(source, load)
    check_complete(
        name,
        source,
        {
            "missing": sorted(found["missing_keys"]),
            "misshapen": [
                f"{key} ({list(theirs)} in the file, {list(ours)} in the model)"
                for key, theirs, ours in sorted(found["mismatched_keys"])
            ],
            "unknown": sorted(
                key for key in found["unexpected_keys"] if not key.endswith(_COMPUTED)
            ),
        },
    )
    return model


def check_complete(name: str, source: str, faults: dict[str, list[str]]) -> None:
    """Refuse weights with faults.

    Args:
        name: The backend's name.
        source: Where the weights are from.
        faults: What is wrong, and the weights of which it is true.

    Raises:
        CheckpointError: Naming the first few weights of each fault.
    """
    lines = [
        f"{len(keys)} weights are {fault}: {', '.join(keys[:_SHOWN])}"
        + (", ..." if len(keys) > _SHOWN else "")
        for fault, keys in faults.items()
        if keys
    ]
    if lines:
        raise CheckpointError(
            f"{source} does not fit vlm {name!r}: {'; '.join(lines)}. Copy or save it again, or "
            "give the weights of this architecture."
        )
