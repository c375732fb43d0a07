# SPDX-License-Identifier: MIT
"""What a replay leaves behind: metrics.json and report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from vla_core.evaluation.artifacts import describe_machine
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.metrics import compute_metrics
from vla_core.evaluation.replay.page import ReplayPage
from vla_core.evaluation.replay.runner import Failure, ReplayJob


def describe_run(
    job: ReplayJob, results: Sequence[BagResult], failures: Sequence[Failure] = ()
) -> dict[str, Any]:
    """Return the content of metrics.json.

    Args:
        job: What was done.
        results: At least one.
        failures: Recordings that could not be replayed.
    """
    policy = job.open_policy()
    return {
        **compute_metrics(results, policy.contract),
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": describe_machine(),
        "checkpoint": {"name": job.checkpoint, "id": policy.checkpoint_id},
        "settings": job.settings.to_dict(),
        "failed": [{"path": str(each.bag), "reason": each.reason} for each in failures],
    }


def write_outputs(
    job: ReplayJob,
    results: Sequence[BagResult],
    metrics: Mapping[str, Any],
    *,
    first: Mapping[str, Any] | None = None,
    faults: Sequence[str] | None = None,
) -> None:
    """Write metrics.json and report.html into the folder of a job.

    Args:
        job: What was done.
        results: Replays that the metrics are of.
        metrics: What `describe_run` returned, with what was added since.
        first: Metrics of the policy that this one is compared with.
        faults: Limits of the gate that are broken; None without a gate.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(metrics, indent=2, allow_nan=False)
    (job.folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    page = ReplayPage(
        metrics=metrics,
        results=results,
        contract=job.open_policy().contract,
        first=first,
        faults=faults,
    )
    (job.folder / "report.html").write_text(page.render(), encoding="utf-8")
