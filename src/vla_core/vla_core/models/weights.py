# SPDX-License-Identifier: MIT
"""Model weights on disk: safetensors and JSON, written atomically, refused with reasons.

Pickle is never read: unpickling a file runs whatever code its author put into it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialize_safetensors
from torch import Tensor, nn

from vla_core.errors import CheckpointError, ConfigError, UnknownNameError
from vla_core.models.weight_files import IDENTITY_KEY, read_part

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"

_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_PROTOCOL = b"\x80"
# What a constructor raises for a damaged configuration: a value of the wrong type or size.
_BUILD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def write_model(
    weights_path: Path,
    config_path: Path,
    module: nn.Module,
    config: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a module's persistent state and its configuration, creating parent folders.

    Each file is complete or absent: it is written beside its destination and then renamed.

    Args:
        weights_path: Where the tensors go.
        config_path: Where the configuration goes.
        module: Its state is written.
        config: JSON values.
        dtype: What floating-point tensors are rounded to; None leaves them as they are.
    """
    tensors = {
        key: value.to(dtype if value.is_floating_point() else None, copy=True).contiguous()
        for key, value in module.state_dict().items()
    }
    metadata = {"format": "pt"}
    metadata[IDENTITY_KEY] = hashlib.sha256(serialize_safetensors(tensors, metadata)).hexdigest()
    _write_atomically(weights_path, serialize_safetensors(tensors, metadata))
    text = json.dumps(dict(config), indent=2, sort_keys=True) + "\n"
    _write_atomically(config_path, text.encode())


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        CheckpointError: If the file is missing or is no JSON object.
    """
    content = _read_bytes(path)
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); save it again.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(config).__name__}.")
    return config


@contextmanager
def building_from(config_path: Path) -> Iterator[None]:
    """Turn what goes wrong while a model is built from a file's configuration into one error.

    Raises:
        CheckpointError: Naming the file and the cause. A name that is not registered stays an
            UnknownNameError.
    """
    try:
        yield
    except (CheckpointError, UnknownNameError):
        raise
    except ConfigError as error:
        raise CheckpointError(f"{config_path} cannot be used: {error}") from error
    except _BUILD_ERRORS as error:
        raise CheckpointError(
            f"{config_path} cannot be used: no model can be built from its values "
            f"({type(error).__name__}: {error}); copy the checkpoint or save it again."
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, whatever its suffix.

    Raises:
        CheckpointError: If the file is missing, truncated, a pickle or no safetensors file.
    """
    content = _read_bytes(path)
    # The size of a safetensors header, which stands before it, may start with the same bytes.
    has_header = content[8:9] == b"{"
    if content.startswith((_ZIP_MAGIC, _PICKLE_PROTOCOL)) and not has_header:
        raise CheckpointError(
            f"{path} is a pickled torch file and is refused, because unpickling can run any "
            "code; load it where you trust it and write it again with save_pretrained."
        )
    try:
        return parse_safetensors(content)
    except SafetensorError as error:
        raise CheckpointError(_describe_damage(path, content, error)) from error


def read_part_tensors(path: Path, prefix: str) -> dict[str, Tensor]:
    """Read the tensors whose names begin with a prefix, and no others.

    Returns:
        The tensors by name, without the prefix; none if no name begins so.

    Raises:
        CheckpointError: If the file is missing, damaged or no safetensors file.
    """
    content = read_part(path, prefix)
    try:
        return parse_safetensors(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error


def load_tensors(
    module: nn.Module, tensors: Mapping[str, Tensor], path: Path, strict: bool = True
) -> None:
    """Load tensors into a module.

    Args:
        module: The module to fill.
        tensors: What `read_tensors` read.
        path: Where it was read, for the report.
        strict: Refuse missing and unexpected keys. A key of another shape is always refused.

    Raises:
        CheckpointError: Listing every key that does not fit.
    """
    expected = module.state_dict()
    misshapen = [
        f"{key}: {list(tensors[key].shape)} in the file, {list(value.shape)} in the model"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    missing = [f"{key}: {list(v.shape)}" for key, v in expected.items() if key not in tensors]
    unexpected = [f"{key}: {list(v.shape)}" for key, v in tensors.items() if key not in expected]
    faults = {"wrong shape": misshapen}
    if strict:
        faults.update({"missing in the file": missing, "unexpected in the file": unexpected})
    report = [
        f"  {title} ({len(lines)}):\n" + "\n".join(f"    {line}" for line in lines)
        for title, lines in faults.items()
        if lines
    ]
    if report:
        raise CheckpointError(
            f"{path} does not fit {type(module).__name__}:\n" + "\n".join(report) + "\n"
            "  Build the model from the configuration that was saved with these weights."
        )
    module.load_state_dict(dict(tensors), strict=False)


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        folder = path.parent
        beside = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        found = ", ".join(beside) or "nothing"
        raise CheckpointError(f"{path} does not exist; its folder holds {found}.")
    return path.read_bytes()


def _describe_damage(path: Path, content: bytes, error: Exception) -> str:
    """Tell a truncated file from one that never was a safetensors file."""
    size = len(content)
    header_size = int.from_bytes(content[:8], "little")
    if size >= 8 and content[8:9] == b"{" and size < 8 + header_size:
        return f"{path} is truncated: {size} bytes, its header alone needs {8 + header_size}."
    try:
        header = json.loads(content[8 : 8 + header_size])
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        needed = 8 + header_size + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        kind = "empty or truncated" if size < 9 else "not a safetensors file"
        return f"{path} is {kind} ({size} bytes): {error}."
    if size < needed:
        return f"{path} is truncated: {size} bytes of {needed}; copy or save it again."
    return f"{path} is damaged: {error}."


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
