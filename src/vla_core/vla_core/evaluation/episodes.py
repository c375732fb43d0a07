# SPDX-License-Identifier: MIT
"""The result of one episode, and the file that results are appended to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vla_core.errors import ConfigError, DatasetError
from vla_core.evaluation.metrics import SuccessRate

NORMAL = "normal"
SWAPPED_INSTRUCTION = "swapped_instruction"
BLACK_IMAGES = "black_images"
CONDITIONS = {
    NORMAL: "instruction of the scene",
    SWAPPED_INSTRUCTION: "same scenes, another target named",
    BLACK_IMAGES: "same scenes, black images",
}
TIME_OUT = "time-out"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResult:
    """How one episode went.

    Attributes:
        number: Place in the run, from 1.
        seed: Seed of the scene.
        condition: One of CONDITIONS.
        instruction: What the policy was told.
        target: What the instruction names, such as a block; success is judged on it.
        success: The task was done: for a block, that it was lifted and held, and no other.
        outcome: The same in words: 'success', 'lifted the green block', 'time-out'.
        duration_s: Time from the instruction to the end, on the robot's clock.
        lifted_m: Greatest height of every object above its resting place, by name.
        start_stamp_ns: Robot's clock when the instruction was given; 0 without a recording.
        end_stamp_ns: Robot's clock at the end; 0 without a recording.
        inference_ms: Median time of an inference; 0 where none was measured.
    """

    number: int
    seed: int
    condition: str
    instruction: str
    target: str
    success: bool
    outcome: str
    duration_s: float
    lifted_m: Mapping[str, float]
    start_stamp_ns: int = 0
    end_stamp_ns: int = 0
    inference_ms: float = field(default=0.0, compare=False)

    @property
    def target_lifted_m(self) -> float:
        """Greatest height of the target, or of any object where the target names several."""
        return self.lifted_m.get(self.target, max(self.lifted_m.values(), default=0.0))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values that `from_dict` reads back."""
        return {**asdict(self), "lifted_m": dict(self.lifted_m)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EpisodeResult:
        """Rebuild what `to_dict` returned.

        Raises:
            DatasetError: A field is unknown or missing.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise DatasetError(
                f"episode result {dict(values)!r} is not readable: {error}."
            ) from None


def describe_outcome(*, success: bool, failure: str) -> str:
    """Say in words how an episode ended.

    Args:
        success: The task was done.
        failure: Why it could no longer be done; empty if it could.
    """
    return "success" if success else failure or TIME_OUT


def other_target(target: str, targets: Sequence[str]) -> str:
    """Return the one after `target` in a cyclic order: what a swapped run names.

    Raises:
        ConfigError: There is no other.
    """
    if target not in targets or len(targets) < 2:
        raise ConfigError(
            f"nothing else than {target!r} can be named in its place (known: {list(targets)}); "
            "do not swap the instruction in this task."
        )
    return targets[(targets.index(target) + 1) % len(targets)]


def success_by_condition(results: Iterable[EpisodeResult]) -> dict[str, SuccessRate]:
    """Count successes per condition, in the order of CONDITIONS; conditions that ran only."""
    by_condition: dict[str, list[bool]] = {}
    for result in results:
        by_condition.setdefault(result.condition, []).append(result.success)
    return {
        condition: SuccessRate.from_outcomes(by_condition[condition])
        for condition in CONDITIONS
        if condition in by_condition
    }


def append_result(path: Path, result: EpisodeResult) -> None:
    """Append one JSON line, so that an interrupted run keeps the episodes that it finished."""
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(result.to_dict()) + "\n")


def read_results(path: Path) -> list[EpisodeResult]:
    """Read the results that `append_result` wrote; none if there is no file.

    Raises:
        DatasetError: A line is not a result.
    """
    if not path.exists():
        return []
    results = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            results.append(EpisodeResult.from_dict(json.loads(line)))
        except (json.JSONDecodeError, DatasetError) as error:
            raise DatasetError(
                f"{path}, line {number} is no episode result: {error}. "
                "Delete the file to start over."
            ) from None
    return results
