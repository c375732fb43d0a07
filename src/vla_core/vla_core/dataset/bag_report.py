# SPDX-License-Identifier: MIT
"""What an import of recordings found, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vla_core.dataset.bag_import import ImportReport
from vla_core.dataset.topic_statistics import TopicStatistics


def describe_topics(report: ImportReport) -> Iterator[str]:
    """Yield a line per topic over all recordings, and the worst stall with its place."""
    topics = dict.fromkeys(topic for found in report.topics.values() for topic in found)
    for topic in topics:
        by_bag = {bag: found[topic] for bag, found in report.topics.items() if topic in found}
        worst_bag, worst = max(by_bag.items(), key=lambda item: item[1].longest_s)
        parts = [
            f"{sum(part.count for part in by_bag.values())} messages at {_rates(by_bag)} Hz",
            f"{sum(part.num_dropped for part in by_bag.values())} dropped",
            f"{sum(part.num_stalls for part in by_bag.values())} stalls",
        ]
        if worst.num_stalls:
            where = f"{worst_bag} at {worst.longest_at_ns / 1e9:.1f} s"
            parts.append(f"longest {worst.longest_s:.2f} s in {where}")
        unordered = sum(part.num_unordered for part in by_bag.values())
        if unordered:
            parts.append(f"{unordered} out of order")
        yield f"{topic}: {', '.join(parts)}"


def report_to_dict(report: ImportReport) -> dict[str, Any]:
    """Return a report as JSON values."""
    return {
        "episodes": [
            {
                "bag": str(episode.bag),
                "start_ns": episode.start_ns,
                "num_frames": episode.num_frames,
                "task": episode.task,
                "left_out": episode.left_out or None,
            }
            for episode in report.episodes
        ],
        "topics": {
            str(bag): {topic: _statistics_to_dict(part) for topic, part in found.items()}
            for bag, found in report.topics.items()
        },
    }


def _statistics_to_dict(statistics: TopicStatistics) -> dict[str, Any]:
    values = {
        "messages": statistics.count,
        "rate_hz": statistics.rate_hz,
        "dropped": statistics.num_dropped,
        "stalls": statistics.num_stalls,
        "longest_s": statistics.longest_s,
        "longest_at_ns": statistics.longest_at_ns,
        "out_of_order": statistics.num_unordered,
        "longest_delay_s": statistics.longest_delay_s,
    }
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


def _rates(by_bag: dict[Path, TopicStatistics]) -> str:
    rates = [part.rate_hz for part in by_bag.values() if math.isfinite(part.rate_hz)]
    if not rates:
        return "unknown"
    low, high = f"{min(rates):.3g}", f"{max(rates):.3g}"
    return low if low == high else f"{low} to {high}"
