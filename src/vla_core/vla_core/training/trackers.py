# SPDX-License-Identifier: MIT
"""Where the figures of a run can be watched: TensorBoard, and Weights & Biases if asked for."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from vla_core.errors import ConfigError


class Tracker(Protocol):
    """Takes the figures of a run."""

    def log(self, group: str, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step; the group is 'train', 'validation' or 'rollout'."""

    def flush(self) -> None:
        """Bring all figures to where they are kept."""

    def close(self) -> None:
        """Flush and end."""


class TensorBoard:
    """Event files, which `tensorboard --logdir` shows.

    Args:
        folder: Of the event files.
        first_step: Figures that an earlier part of the run wrote from this step on are hidden.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def log(self, group: str, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def flush(self) -> None:
        """Bring all figures to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def import_wandb(project: str) -> Any:
    """Return the package of Weights & Biases, for a project that is asked for.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            f"wandb is {project!r}, but wandb is not installed; run: pip install wandb, or "
            "leave it out: TensorBoard's files are always written."
        ) from error
    return wandb


class WandB:
    """A run of Weights & Biases, which a resumed training continues.

    Args:
        project: Name of the project.
        folder: Of the run; its identity is kept there.
        recipe: Shown beside the figures.

    Raises:
        ConfigError: wandb is not installed, or nobody is logged in.
    """

    def __init__(self, project: str, folder: Path, recipe: Mapping[str, Any]) -> None:
        wandb = import_wandb(project)
        folder.mkdir(parents=True, exist_ok=True)
        identity = folder / "wandb_id"
        if not identity.is_file():
            identity.write_text(uuid.uuid4().hex)
        try:
            self._run = wandb.init(
                project=project,
                dir=str(folder),
                id=identity.read_text(),
                resume="allow",
                config=dict(recipe),
            )
        except wandb.Error as error:
            raise ConfigError(
                f"wandb is {project!r}, but no run can be begun: {error} Run `wandb login`, or "
                "set WANDB_MODE=offline and send the run later by `wandb sync`."
            ) from error

    def log(self, group: str, step: int, figures: Mapping[str, float]) -> None:
        """Send the figures of a step."""
        named = {f"{group}/{name}": value for name, value in figures.items()}
        self._run.log(named, step=step)

    def flush(self) -> None:
        """Do nothing: wandb sends by itself."""

    def close(self) -> None:
        """Send the rest."""
        self._run.finish()
