# SPDX-License-Identifier: MIT
"""What a run shows: a progress bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

_LINE_INTERVAL_S = 15.0
_SMOOTHING = 0.05


class ProgressDisplay:
    """Shows how far something counted has come, as a context manager.

    Args:
        console: Where to show it.
        title: What is counted.
        total: Count at the end; where it was too low an estimate, it grows with the count.
        start: Count at the beginning, of a resumed run.
        per_count: Units per count, for the rate.
        unit: What the rate counts.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        total: int,
        *,
        start: int = 0,
        per_count: int = 1,
        unit: str = "samples",
    ) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._count = start
        self._start = start
        self._per_count = per_count
        self._unit = unit
        self._loss: float | None = None
        self._began = time.monotonic()
        self._last_line = self._began
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=total, completed=start, figures="")

    def advance(
        self, count: int = 1, *, loss: float | None = None, learning_rate: float | None = None
    ) -> None:
        """Count on, with the figures of a training step."""
        self._count += count
        self._total = max(self._total, self._count)
        figures = []
        if loss is not None:
            previous = loss if self._loss is None else self._loss
            self._loss = previous + _SMOOTHING * (loss - previous)
            figures.append(f"loss {self._loss:.4f}")
        if learning_rate is not None:
            figures.append(f"lr {learning_rate:.1e}")
        rate = self._rate()
        figures.append(f"{rate:.{0 if rate >= 10.0 else 1}f} {self._unit}/s")
        self._progress.update(
            self._task, completed=self._count, total=self._total, figures="  ".join(figures)
        )
        if not self._console.is_terminal:
            self._print_line(figures)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def __enter__(self) -> ProgressDisplay:
        """Start the bar."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it is."""
        self._progress.stop()

    def _rate(self) -> float:
        elapsed = max(time.monotonic() - self._began, 1e-6)
        return (self._count - self._start) * self._per_count / elapsed

    def _print_line(self, figures: list[str]) -> None:
        now = time.monotonic()
        if now - self._last_line < _LINE_INTERVAL_S and self._count < self._total:
            return
        self._last_line = now
        remaining = (self._total - self._count) * self._per_count / max(self._rate(), 1e-6)
        self._console.print(
            f"{self._title} {self._count}/{self._total}  {'  '.join(figures)}  "
            f"{remaining:.0f} s left",
            highlight=False,
            soft_wrap=True,
        )
