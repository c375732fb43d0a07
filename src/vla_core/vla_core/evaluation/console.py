# SPDX-License-Identifier: MIT
"""Lines about episodes for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from vla_core.evaluation.episodes import CONDITIONS, NORMAL, EpisodeResult, success_by_condition


def describe_episode(result: EpisodeResult, total: int) -> Text:
    """Return the line that is printed when an episode ends.

    Args:
        result: The episode.
        total: Number of episodes of the run.
    """
    text = Text()
    text.append(f"{result.number:>{len(str(total))}}/{total}", style="bold")
    text.append(f"  seed {result.seed}  ")
    text.append(f"{result.instruction:<23} ", style="cyan")
    text.append(f"{result.outcome:<22} ", style="bold green" if result.success else "bold red")
    text.append(f"{result.duration_s:4.1f} s  lifted {100 * result.target_lifted_m:4.1f} cm")
    if result.condition != NORMAL:
        text.append(f"  ({CONDITIONS[result.condition]})", style="dim")
    return text


def success_table(results: Iterable[EpisodeResult]) -> Table:
    """Return the success rate of every condition with its interval."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("condition", "success", "rate", "95% interval"):
        table.add_column(title, justify="left" if title == "condition" else "right")
    for condition, rate in success_by_condition(results).items():
        lower, upper = rate.interval
        table.add_row(
            CONDITIONS[condition],
            f"{rate.successes} of {rate.trials}",
            f"{rate.rate:.0%}",
            f"{lower:.0%} to {upper:.0%}",
        )
    return table
