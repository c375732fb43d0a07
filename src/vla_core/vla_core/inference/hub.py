# SPDX-License-Identifier: MIT
"""Checkpoints on the Hugging Face hub, by its own library: ``hf:owner/name[@revision]``.

Only the files of a checkpoint are downloaded, all of them data: JSON and safetensors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vla_core.errors import CheckpointError, ConfigError

HUB = "hf:"
"""What the name of a checkpoint on the hub begins with."""

_NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_FILES = ("config.json", "model.safetensors", "processing.json", "training.json")
_CARD = "README.md"


def parse_hub_name(name: str) -> tuple[str, str | None]:
    """Return repository and revision of ``hf:owner/name[@revision]``.

    Raises:
        ConfigError: It is no such name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"{name!r} must be {HUB}owner/name or {HUB}owner/name@revision, "
            "where the revision is a branch, a tag or a commit."
        )
    return match["repository"], match["revision"]


def download_checkpoint(name: str) -> Path:
    """Return the folder of a checkpoint of the hub, which the cache keeps for the next time.

    Args:
        name: ``hf:owner/name[@revision]``.

    Raises:
        ConfigError: The name is not valid, or huggingface_hub is not installed.
        CheckpointError: It cannot be downloaded, and is not in the cache.
    """
    repository, revision = parse_hub_name(name)
    hub = _import_hub()
    try:
        return Path(
            hub.snapshot_download(repository, revision=revision, allow_patterns=list(_FILES))
        )
    except (hub.errors.HTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint '{name}' cannot be downloaded ({_first_line(error)}); look at name, "
            "revision and network, and for a private one set HF_TOKEN or run: hf auth login."
        ) from error


def push_checkpoint(folder: Path, name: str, *, private: bool) -> str:
    """Upload a checkpoint, in one commit, and create its repository where there is none.

    Args:
        folder: Of the checkpoint.
        name: ``hf:owner/name[@branch]``.
        private: Whether a repository that is created is private.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: The name is not valid, or huggingface_hub is not installed.
        CheckpointError: It cannot be uploaded.
    """
    repository, revision = parse_hub_name(name)
    hub = _import_hub()
    api = hub.HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            revision=revision,
            allow_patterns=[*_FILES, _CARD],
            commit_message=f"Checkpoint {folder.name}",
        )
    except (hub.errors.HTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint '{folder}' cannot be uploaded to '{name}' ({_first_line(error)}); set "
            "HF_TOKEN to a token that may write, or run: hf auth login."
        ) from error
    return str(commit.commit_url)


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ConfigError(
            "a checkpoint on the hub needs huggingface_hub, which is not installed; run: "
            "pip install 'vla_core[hub]'."
        ) from error
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
