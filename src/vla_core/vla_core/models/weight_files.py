# SPDX-License-Identifier: MIT
"""What a weights file says without torch: its identity, and a part of its tensors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_arrays

from vla_core.errors import CheckpointError

IDENTITY_KEY = "identity"
"""Entry of the header: the hash of the tensors, which `write_model` adds."""

_METADATA = "__metadata__"
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
        with path.open("rb") as file:
            metadata = _read_header(file).get(_METADATA, {})
        identity = metadata.get(IDENTITY_KEY) or _hash_file(path)
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
        return dict(parse_arrays(read_part(path, prefix)))
    except (SafetensorError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has tensors that numpy cannot hold: {error}.") from error


def read_part(path: Path, prefix: str) -> bytes:
    """Read a part of a weights file, as the content of a file that has only that part.

    Args:
        path: Weights file.
        prefix: Beginning of the names of the tensors to read; it is left out of the result.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    header: dict[str, Any] = {}
    chunks: list[bytes] = []
    size = 0
    try:
        with path.open("rb") as file:
            entries = _read_header(file)
            start = file.tell()
            for name, entry in entries.items():
                if not name.startswith(prefix) or name == _METADATA:
                    continue
                first, last = entry["data_offsets"]
                file.seek(start + first)
                chunks.append(file.read(last - first))
                if len(chunks[-1]) != last - first:
                    raise ValueError(f"it is truncated within tensor {name!r}")
                offsets = [size, size + last - first]
                header[name.removeprefix(prefix)] = {**entry, "data_offsets": offsets}
                size += last - first
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; save it again.") from error
    text = json.dumps(header).encode()
    return b"".join((len(text).to_bytes(8, "little"), text, *chunks))


def _read_header(file: BinaryIO) -> dict[str, Any]:
    size = int.from_bytes(file.read(8), "little")
    if size > _LARGEST_HEADER:
        raise ValueError("it is no safetensors file")
    return dict(json.loads(file.read(size)))


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
