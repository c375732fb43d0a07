# SPDX-License-Identifier: MIT
"""What a weights file says without torch: its identity, and a part of its tensors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from vla_core.errors import CheckpointError

IDENTITY_KEY = "identity"
"""Entry of the header: the hash of the tensors, which `write_model` adds."""

_IDENTITY_LENGTH = 12
_LARGEST_HEADER = 100_000_000  # the limit of safetensors itself


def weights_identity(path: Path) -> str:
    """Return a short hash of the weights in a file.

    The header tells it, so that a process which loads a part need not read the rest; of a file
    without that entry the whole is hashed.

    Raises:
        CheckpointError: The file cannot be read.
    """
    try:
        identity = _read_metadata(path).get(IDENTITY_KEY) or _hash_file(path)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; save it again.") from error
    return str(identity)[:_IDENTITY_LENGTH]


def read_arrays(path: Path, prefix: str) -> dict[str, NDArray[Any]]:
    """Read the tensors whose names begin with a prefix, and no others.

    Args:
        path: Weights file.
        prefix: Beginning of the names.

    Returns:
        The arrays by name, without the prefix; none if no name begins so.

    Raises:
        CheckpointError: The file is missing or damaged, or a tensor has a type that numpy lacks.
    """
    try:
        with safe_open(path, framework="np") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): np.asarray(file.get_tensor(name)) for name in names}
    except (OSError, SafetensorError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; save it again.") from error


def _read_metadata(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LARGEST_HEADER:
            raise ValueError("it is no safetensors file")
        header = json.loads(file.read(size))
    return dict(header.get("__metadata__", {}))


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
