# SPDX-License-Identifier: MIT
"""Replays many recordings: what is done stays done, a bag that cannot be read stops no other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from vla_core.errors import VLAError
from vla_core.evaluation.replay.bag_replay import BagReplay, Progress, TickSink, fingerprint
from vla_core.evaluation.replay.bag_result import BagResult, load_finished
from vla_core.evaluation.replay.inference import Inference, LocalInference
from vla_core.evaluation.replay.settings import ReplaySettings
from vla_core.processing.contract import RobotContract

if TYPE_CHECKING:
    from vla_core.evaluation.replay.replay_process import ReplayProcess
    from vla_core.inference.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """One policy on many recordings.

    Attributes:
        checkpoint: Shipped name or folder.
        settings: How recordings are read.
        folder: Where results go.
        device: Where to infer.
        num_threads: Threads of torch.
        writes_mcap: Whether predictions and recording go side by side into an MCAP file.
        writes_rerun: Whether they go into a file for the Rerun viewer.
    """

    checkpoint: str
    settings: ReplaySettings
    folder: Path
    device: str = "cpu"
    num_threads: int = 1
    writes_mcap: bool = False
    writes_rerun: bool = False

    def open_policy(self) -> Policy:
        """Open the policy, once in a process."""
        return _open_policy(self.checkpoint, self.settings.contract, self.num_threads, self.device)

    def bag_name(self, bag: Path) -> str:
        """Return a short name that no other recording has."""
        return f"{bag.stem}-{hashlib.sha256(str(bag.resolve()).encode()).hexdigest()[:8]}"

    def result_folder(self, bag: Path) -> Path:
        """Return where the result of a recording is."""
        return self.folder / "bags" / self.bag_name(bag)

    def _prediction_paths(self, bag: Path) -> list[Path]:
        name = self.folder / "predictions" / self.bag_name(bag)
        paths = [name] if self.writes_mcap else []
        return [*paths, name.with_name(f"{name.name}.rrd")] if self.writes_rerun else paths

    def finished(self, bag: Path) -> BagResult | None:
        """Return the result of an earlier run that did exactly this, if there is one."""
        if any(not path.exists() for path in self._prediction_paths(bag)):
            return None
        identity = self.open_policy().checkpoint_id
        return load_finished(self.result_folder(bag), fingerprint(bag, identity, self.settings))


@dataclass(frozen=True, slots=True)
class Failure:
    """A recording that could not be replayed.

    Attributes:
        bag: The recording.
        reason: Why.
    """

    bag: Path
    reason: str


Outcome = BagResult | Failure


def replay_bag(
    job: ReplayJob,
    bag: Path,
    on_progress: Progress = lambda elapsed_s, duration_s: None,
    inference: Inference | None = None,
) -> BagResult:
    """Replay one recording.

    Args:
        job: What to do.
        bag: The recording.
        on_progress: Called with the time replayed and the duration, in s.
        inference: The policy of the job; None: it is opened in this process.

    Raises:
        VLAError: It cannot be read, or the policy cannot answer it.
    """
    inference = inference or LocalInference(job.open_policy())
    with ExitStack() as stack:
        sinks = open_sinks(job, bag, inference.facts.contract, stack)
        replay = BagReplay(inference, bag, job.settings, on_progress=on_progress, sinks=sinks)
        return replay.run()


def open_sinks(
    job: ReplayJob, bag: Path, contract: RobotContract, stack: ExitStack
) -> list[TickSink]:
    """Return what writes the answered ticks of a recording, until the stack is left."""
    sinks: list[TickSink] = []
    if job.writes_mcap:
        from vla_core.evaluation.replay.foxglove_layout import replay_layout
        from vla_core.evaluation.replay.predictions_bag import PredictionsBag

        path = job.folder / "predictions" / job.bag_name(bag)
        sinks.append(stack.enter_context(PredictionsBag(path, contract)).add)
        layout = json.dumps(replay_layout(contract), indent=2)
        (job.folder / "predictions/foxglove.json").write_text(layout, encoding="utf-8")
    if job.writes_rerun:
        from vla_core.evaluation.replay.rerun_file import RerunFile

        path = job.folder / "predictions" / f"{job.bag_name(bag)}.rrd"
        sinks.append(RerunFile(path, contract).add)
    return sinks


def replay_bags(
    job: ReplayJob,
    bags: Sequence[Path],
    *,
    resume: bool = False,
    on_progress: Callable[[Path, float, float], None] = lambda bag, elapsed_s, duration_s: None,
    ray_address: str | None = None,
    process: ReplayProcess | None = None,
) -> Iterator[tuple[Path, Outcome]]:
    """Replay recordings and keep every result as it comes.

    Args:
        job: What to do.
        bags: The recordings.
        resume: Whether results of an earlier, equal run are taken.
        on_progress: Called with a recording, the time replayed, and its duration.
        ray_address: Ray cluster to spread the recordings over, see ``replay_on_cluster``; then
            there is no such progress. None: one after the other on this machine.
        process: Reads and judges the recordings, so that this process only infers. None: it does
            all.

    Yields:
        A recording and its outcome: first those of the earlier run, then the others in order or,
        on a cluster, as they come.

    Raises:
        VLAError: The policy cannot be opened, or the cluster does not answer.
    """
    job.open_policy()
    rest: list[Path] = []
    outcomes: Iterator[tuple[Path, Outcome]]
    for bag in bags:
        found = job.finished(bag) if resume and bag.exists() else None
        if found is None:
            rest.append(bag)
        else:
            yield bag, found
    if ray_address is None:
        outcomes = ((bag, attempt(job, bag, partial(on_progress, bag), process)) for bag in rest)
    else:
        from vla_core.evaluation.replay.cluster import replay_on_cluster

        outcomes = replay_on_cluster(job, rest, ray_address)
    for bag, outcome in outcomes:
        if isinstance(outcome, BagResult):
            outcome.save(job.result_folder(bag))
        yield bag, outcome


def attempt(
    job: ReplayJob, bag: Path, on_progress: Progress, process: ReplayProcess | None = None
) -> Outcome:
    """Replay one recording; what cannot be replayed is an outcome, too."""
    try:
        if process is not None:
            return process.replay(job, bag, job.open_policy(), on_progress)
        return replay_bag(job, bag, on_progress)
    except VLAError as error:
        return Failure(bag, str(error))


@lru_cache(maxsize=2)
def _open_policy(checkpoint: str, contract: str | None, num_threads: int, device: str) -> Policy:
    from vla_core.inference.policy import Policy

    policy = Policy.from_checkpoint(
        checkpoint, contract=contract, num_threads=num_threads, device=device
    )
    policy.warm_up()
    return policy
