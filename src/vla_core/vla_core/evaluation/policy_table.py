# SPDX-License-Identifier: MIT
"""The shipped policies beside each other: what each can do, how fast it thinks, what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from rich.table import Table

from vla_core.evaluation.episodes import NORMAL, EpisodeResult
from vla_core.evaluation.metrics import SuccessRate
from vla_core.evaluation.rollout import read_training_report

_TITLES = (
    "checkpoint",
    "framework",
    "task",
    "success",
    "95 % interval",
    "latency, ms",
    "parameters",
    "steps",
    "training, min",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """One row of the table.

    Attributes:
        checkpoint: Name of the checkpoint.
        framework: Name of its framework.
        task: Task of the simulation, and the target if it was only one.
        success: Scenes that it mastered.
        inference_ms: Median time of an inference where the rollout ran.
        parameters: Of the whole model.
        steps: Optimiser steps of its training.
        training_min: Time of these steps where it was trained.
    """

    checkpoint: str
    framework: str
    task: str
    success: SuccessRate
    inference_ms: float
    parameters: int
    steps: int
    training_min: float

    @classmethod
    def of(cls, settings: Mapping[str, Any], results: Iterable[EpisodeResult]) -> PolicyFigures:
        """Sum up a rollout.

        Args:
            settings: What was run, `checkpoint`, `task` and `target`.
            results: Its episodes; those under the normal condition count.

        Raises:
            CheckpointError: The checkpoint is missing or damaged.
        """
        report = read_training_report(settings["checkpoint"])
        target = settings["target"]
        normal = [result for result in results if result.condition == NORMAL]
        return cls(
            checkpoint=settings["checkpoint"],
            framework=report["recipe"]["framework"],
            task=settings["task"] + (f", {target}" if target else ""),
            success=SuccessRate.from_outcomes(result.success for result in normal),
            inference_ms=median(result.inference_ms for result in normal),
            parameters=report["parameters"],
            steps=report["steps"],
            training_min=report["seconds"] / 60.0,
        )

    def cells(self) -> list[str]:
        """Return the row as texts, in the order of the titles."""
        lower, upper = self.success.interval
        return [
            self.checkpoint,
            self.framework,
            self.task,
            f"{self.success.successes} of {self.success.trials}",
            f"{lower:.0%} to {upper:.0%}",
            f"{self.inference_ms:.1f}",
            f"{self.parameters / 1e6:.1f} M",
            f"{self.steps:,}",
            f"{self.training_min:.0f}",
        ]


def policy_table(rows: Sequence[PolicyFigures]) -> Table:
    """Return the table for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(_TITLES):
        justify: Literal["left", "right"] = "left" if number < 3 else "right"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row.cells())
    return table


def policy_markdown(rows: Sequence[PolicyFigures]) -> str:
    """Return the table for a document."""
    lines = [_TITLES, ["---"] * 3 + ["---:"] * (len(_TITLES) - 3)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [*lines, *(r.cells() for r in rows)])
