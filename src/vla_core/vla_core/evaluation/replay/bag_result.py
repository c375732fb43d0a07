# SPDX-License-Identifier: MIT
"""What the replay of one recording found, in a folder that later runs read again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import DatasetError

_FACTS, _ARRAYS, _FORMAT = "result.json", "ticks.npz", 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BagResult:
    """The replay of one recording by one policy.

    Attributes:
        facts: JSON values: 'bag', 'duration_s', 'checkpoint_id', 'settings', 'gaps', 'refusals',
            'topics', 'worst', 'instructions' and the times that the replay took.
        ticks: Arrays over the T control ticks with a prediction: 'time_ns', 'episode',
            'recorded' and 'predicted' [T, A] (first step), 'error' [T, A] and 'score' (mean over
            the horizon, in robot units and in the policy's space), 'cosine', 'gripper_same' and
            'gripper_open' (shares), 'latency_s', 'ages_s' [T, cameras + 1], 'jerk_predicted' and
            'jerk_recorded' [T, A] (mean squares), 'command_ticks', 'cut_ticks', 'joint_cuts',
            'summed_cuts' and 'largest_cuts' [T, J], 'switch_jump'.
        horizon: Sums over the control ticks, [K, A] each: 'count', 'absolute', 'square' and
            'largest' of the errors in robot units, 'policy_absolute', 'policy_square' and
            'policy_largest' in the policy's space.
        probes: Arrays over the checks of the senses: 'time_ns' and 'error' [P], and by name
            'NAME/change' and 'NAME/error'.
        frames: JPEG of the cameras at each of the worst moments.
    """

    facts: Mapping[str, Any]
    ticks: Mapping[str, NDArray[Any]]
    horizon: Mapping[str, NDArray[np.float64]]
    probes: Mapping[str, NDArray[Any]]
    frames: Sequence[bytes]

    def save(self, folder: Path) -> None:
        """Write the result; `result.json` comes last, so that a folder with one is complete."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FACTS).unlink(missing_ok=True)
        arrays = {
            f"{part}:{name}": values
            for part in ("ticks", "horizon", "probes")
            for name, values in getattr(self, part).items()
        }
        np.savez_compressed(folder / _ARRAYS, **arrays)
        for number, frame in enumerate(self.frames):
            (folder / f"worst_{number}.jpg").write_bytes(frame)
        text = json.dumps({"format": _FORMAT, **self.facts}, indent=2, allow_nan=False)
        unfinished = folder / f"{_FACTS}.part"
        unfinished.write_text(text + "\n", encoding="utf-8")
        os.replace(unfinished, folder / _FACTS)

    @classmethod
    def load(cls, folder: Path) -> BagResult:
        """Read what `save` wrote.

        Raises:
            DatasetError: There is no result, or it is damaged or of another version.
        """
        try:
            facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            if facts.get("format") != _FORMAT:
                raise DatasetError(
                    f"result in '{folder}' has format {facts.get('format')}, expected {_FORMAT}; "
                    "replay the bag again."
                )
            parts: dict[str, dict[str, NDArray[Any]]] = {"ticks": {}, "horizon": {}, "probes": {}}
            with (
                open(folder / _ARRAYS, "rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                for key in arrays.files:
                    part, _, name = key.partition(":")
                    parts[part][name] = arrays[key]
            frames = [
                (folder / f"worst_{number}.jpg").read_bytes()
                for number in range(len(facts["worst"]))
            ]
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DatasetError(f"result in '{folder}' cannot be read: {error}.") from error
        return cls(facts=facts, frames=frames, **parts)


def load_finished(folder: Path, fingerprint: Mapping[str, Any]) -> BagResult | None:
    """Return the result of an earlier run if it is complete and of the same kind, else None.

    Args:
        folder: Where it would be.
        fingerprint: Checkpoint, settings and size of the bag that it has to be of.
    """
    if not (folder / _FACTS).is_file():
        return None
    try:
        result = BagResult.load(folder)
    except DatasetError:
        return None
    is_same = all(result.facts.get(name) == value for name, value in fingerprint.items())
    return result if is_same else None
