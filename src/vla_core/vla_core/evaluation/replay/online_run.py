# SPDX-License-Identifier: MIT
"""Evaluate a run over ROS, and beside it the replay of the same recording without."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_core.evaluation.replay.agreement import describe_agreement
from vla_core.evaluation.replay.bag_replay import BagReplay, Progress
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.inference import LocalInference
from vla_core.evaluation.replay.metrics import compute_metrics
from vla_core.evaluation.replay.online_replay import OnlineReplay
from vla_core.evaluation.replay.output import describe_run
from vla_core.evaluation.replay.runner import ReplayJob, open_sinks


def evaluate_answers(
    job: ReplayJob,
    bag: Path,
    answers: Path,
    *,
    asks_again: bool = True,
    on_progress: Progress = lambda elapsed_s, duration_s: None,
) -> tuple[BagResult, dict[str, Any]]:
    """Return what a run over ROS was like, and the content of its metrics.json.

    Args:
        job: The policy, and how the bag is read.
        bag: The recording that was played.
        answers: The recording of the run.
        asks_again: Whether the policy is also asked without ROS, which takes its inferences once
            more: for the same observations, and for a replay of its own to compare with.
        on_progress: Called with the time since the first control tick and the duration of the
            bag, in s; from the beginning again for the replay.

    Raises:
        DatasetError: The bag or the answers cannot be read, or there are no answers.
        CheckpointError: The checkpoint is missing, damaged, or does not fit.
    """
    policy = job.open_policy()
    settings = job.settings if asks_again else replace(job.settings, probe_every=0)
    with ExitStack() as stack:
        online = OnlineReplay(
            policy,
            bag,
            answers,
            settings,
            asks_again=asks_again,
            on_progress=on_progress,
            sinks=open_sinks(job, bag, policy.contract, stack),
        )
        result = online.run()
    metrics = describe_run(job, [result])
    offline = None
    if asks_again:
        quick = replace(job.settings, probe_every=0, num_worst=0)
        replay = BagReplay(
            LocalInference(policy), bag, quick, on_progress=on_progress, span_ns=online.span_ns
        )
        offline = compute_metrics([replay.run()], policy.contract)
    metrics["online"] = describe_agreement(result, metrics, offline)
    return result, metrics
