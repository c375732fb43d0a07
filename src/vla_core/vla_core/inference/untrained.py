# SPDX-License-Identifier: MIT
"""Checkpoints of untrained frameworks, for trying a robot's whole graph before any training.

``untrained:<framework>`` is a small model of that framework with the tiny VLM (or a small vision
encoder), whose normalisation spans a part of the range of each joint. It moves the arm aimlessly
within its limits. Framework, seed, contract and code give the same weights in every process, so
that the tiers of Helix agree; it is built once and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vla_core.errors import CheckpointError
from vla_core.processing.contract import RobotContract
from vla_core.processing.normalization import Statistics

UNTRAINED = "untrained:"
"""What the name of an untrained checkpoint begins with."""

_CHUNK_SIZE, _IMAGE_SIZE = 16, 96
_REACH = 0.2
"""Half the span of the normalised range, as a share of each joint's range, about its middle."""
_MODELS: Mapping[str, Mapping[str, Any]] = {
    "act": {"hidden_dim": 64, "num_heads": 4, "feedforward_dim": 128, "num_encoder_layers": 2},
    "custom": {"hidden_dim": 64},
    "gr00t": {"hidden_dim": 64, "sampler": "ddim", "inference_steps": 4},
    "helix": {"hidden_dim": 64, "depth": 2, "plan_dim": 64, "motor_dim": 64, "plan_max_age": 4},
    "octo": {"hidden_dim": 64, "num_layers": 2, "num_heads": 4, "head_dim": 64},
    "openvla": {"hidden_dim": 64, "action_token_pattern": "oft"},
    "pi0": {"hidden_dim": 64, "num_state_tokens": 64, "flow_steps": 4},
    "rt2": {},
}
_CHUNK_KEYWORDS: Mapping[str, Mapping[str, int]] = {
    "helix": {"plan_horizon": _CHUNK_SIZE},
    "rt2": {"chunk_size": 1},  # one action at a time, as published
}


def untrained_checkpoint(name: str, contract: RobotContract | None, *, seed: int = 0) -> Path:
    """Return the folder of an untrained checkpoint, building it if it is not there yet.

    A process that has not loaded torch builds it in a process of its own.

    Args:
        name: ``untrained:<framework>``.
        contract: The robot that it is for.
        seed: Of the weights.

    Raises:
        CheckpointError: The framework is unknown, the robot is not given, or the building failed.
    """
    framework = name.removeprefix(UNTRAINED)
    if framework not in _MODELS:
        known = ", ".join(f"'{UNTRAINED}{known}'" for known in _MODELS)
        raise CheckpointError(f"checkpoint '{name}' is unknown; available: {known}.")
    if contract is None:
        raise CheckpointError(f"checkpoint '{name}' is built for a robot; give its contract.")
    folder = _cache() / f"{framework}-{_key(framework, contract, seed)}"
    if folder.is_dir():
        return folder
    if "torch" in sys.modules:
        build_untrained(folder, framework, contract, seed)
        return folder
    request = json.dumps([str(folder), framework, contract.to_dict(), seed])
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=request,
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode or not folder.is_dir():
        raise CheckpointError(f"checkpoint '{name}' could not be built:\n{done.stderr.strip()}")
    return folder


def build_untrained(folder: Path, framework: str, contract: RobotContract, seed: int) -> None:
    """Write an untrained checkpoint; the folder is complete or absent.

    Args:
        folder: Where to; its parents are created.
        framework: One of those that have settings here.
        contract: The robot.
        seed: Of the weights.
    """
    import torch

    from vla_core.models.frameworks import framework_class
    from vla_core.models.vlm import get_vlm
    from vla_core.processing.pipeline import ProcessingPipeline

    cls = framework_class(framework)
    accepted = inspect.signature(cls).parameters
    given: dict[str, Any] = {
        "action_dim": len(contract.action_names),
        "state_dim": len(contract.state_names),
        "num_cameras": len(contract.cameras),
        "vision_encoder": {"name": "patch", "output_dim": 64},
        **_CHUNK_KEYWORDS.get(framework, {"chunk_size": _CHUNK_SIZE}),
        **_MODELS[framework],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if "vlm" in accepted:
            given["vlm"] = get_vlm("tiny", pretrained=True, num_action_tokens=256)
        model = cls(**{key: value for key, value in given.items() if key in accepted})
    pipeline = ProcessingPipeline(
        contract,
        state_statistics=_statistics(contract, contract.state_names),
        action_statistics=_statistics(contract, contract.action_names),
        image_size=_IMAGE_SIZE,
        chunk_size=model.chunk_length,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.save_pretrained(partial)
        pipeline.save(partial)
        partial.rename(folder)
    except OSError:
        # Another process has built the same one meanwhile.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _statistics(contract: RobotContract, names: tuple[str, ...]) -> Statistics:
    ranges = [
        (contract.limits[name].lower, contract.limits[name].upper)
        if name in contract.limits
        else (-1.0, 1.0)
        for name in names
    ]
    lower, upper = np.array(ranges).T
    middle, half = (lower + upper) / 2.0, _REACH * (upper - lower)
    low, high = middle - half, middle + half
    return Statistics(
        mean=middle, std=half / np.sqrt(3.0), min=low, max=high, q01=low, q99=high, count=1
    )


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "vla_core" / "untrained"


def _key(framework: str, contract: RobotContract, seed: int) -> str:
    """Return a short hash of all that decides the weights: also of the code that makes them."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(json.dumps([framework, contract.to_dict(), seed]).encode())
    sources = [Path(__file__), *sorted((package / "models").rglob("*.py"))]
    for path in (*sources, package / "checkpoints" / "tiny_vlm" / "model.safetensors"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _main() -> None:
    folder, framework, contract, seed = json.load(sys.stdin)
    build_untrained(Path(folder), framework, RobotContract.from_dict(contract), seed)


if __name__ == "__main__":
    _main()
