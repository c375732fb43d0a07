# SPDX-License-Identifier: MIT
"""Find a checkpoint's folder and read what describes it; no torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vla_core.errors import CheckpointError, ContractError
from vla_core.inference.hub import HUB, download_checkpoint
from vla_core.inference.untrained import UNTRAINED, untrained_checkpoint
from vla_core.processing.contract import RobotContract
from vla_core.processing.value_checks import available

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
PROCESSING_NAME = "processing.json"

_SHIPPED = Path(__file__).parents[1] / "checkpoints"
_FILES = (CONFIG_NAME, WEIGHTS_NAME, PROCESSING_NAME)


def find_checkpoint(path_or_name: str | Path, contract: RobotContract | None = None) -> Path:
    """Return the directory of a checkpoint.

    Args:
        path_or_name: The name of a shipped one, a path (``./groot`` for a folder that is called
            so), ``hf:owner/name[@revision]`` on the Hugging Face hub, or
            ``untrained:<framework>``, which is built where it does not exist yet.
        contract: The robot that an untrained one is built for; others do not need it.

    Raises:
        CheckpointError: There is no such directory, it lacks a file, or it cannot be downloaded
            or built.
    """
    if str(path_or_name).startswith(UNTRAINED):
        return untrained_checkpoint(str(path_or_name), contract)
    if str(path_or_name).startswith(HUB):
        directory = download_checkpoint(str(path_or_name))
    elif str(path_or_name) in shipped_checkpoints():
        directory = _SHIPPED / path_or_name
    else:
        directory = Path(path_or_name)
    if not directory.is_dir():
        shipped = available(str(path_or_name), shipped_checkpoints(), "shipped")
        raise CheckpointError(
            f"checkpoint '{path_or_name}' is neither a directory nor shipped; {shipped}; "
            f"'{HUB}owner/name' is on the Hugging Face hub, '{UNTRAINED}<framework>' builds one."
        )
    missing = [name for name in _FILES if not (directory / name).is_file()]
    if missing:
        found = ", ".join(sorted(path.name for path in directory.iterdir())) or "nothing"
        raise CheckpointError(
            f"checkpoint '{directory}' lacks {', '.join(missing)}; it holds {found}."
        )
    return directory


def shipped_checkpoints() -> list[str]:
    """Return the names of the checkpoints that ship with the package, sorted."""
    return sorted(path.parent.name for path in _SHIPPED.glob(f"*/{PROCESSING_NAME}"))


def require_fitting_contract(contract: RobotContract, trained: RobotContract) -> None:
    """Refuse a robot that a policy was not trained for.

    Args:
        contract: The robot to act on.
        trained: The robot of the training data.

    Raises:
        ContractError: They do not fit each other; the message says what differs.
    """
    differences = trained.differences(contract)
    if differences:
        lines = "\n".join(f"  {line}" for line in differences)
        raise ContractError(
            f"the checkpoint was trained on robot '{trained.robot}' and does not fit the contract "
            f"of '{contract.robot}' (checkpoint != contract):\n{lines}\n"
            "Use the contract of the training data, or train on data of this robot."
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a checkpoint.

    Raises:
        CheckpointError: The file is missing or holds none.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); save it again.") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(data).__name__}.")
    return data
