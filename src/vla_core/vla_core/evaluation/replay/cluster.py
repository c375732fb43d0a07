# SPDX-License-Identifier: MIT
"""Recordings spread over a Ray cluster.

The checkpoint and the bags must be there by the same paths. A worker that is killed loses the
recording that it replayed; another worker begins it anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vla_core.errors import ConfigError, VLAError
from vla_core.evaluation.replay.runner import Failure, Outcome, ReplayJob, replay_bag

LOCAL = "local"
_MAX_RETRIES = 3


def replay_on_cluster(
    job: ReplayJob, bags: Sequence[Path], address: str
) -> Iterator[tuple[Path, Outcome]]:
    """Replay every recording in a task of its own.

    Args:
        job: What to do.
        bags: The recordings.
        address: The cluster, such as ``'auto'`` or ``'ray://head:10001'``; ``'local'`` for
            processes on this machine.

    Yields:
        A recording and its outcome, as they come.

    Raises:
        ConfigError: Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("--ray needs ray; run pip install 'vla_core[ray]'.") from error

    was_connected = ray.is_initialized()
    if not was_connected:
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"ray address '{address}' does not answer: {error}.") from error
    task = ray.remote(num_cpus=job.num_threads, max_retries=_MAX_RETRIES)(_replay)
    pending = {task.remote(job, bag): bag for bag in bags}
    try:
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            bag = pending.pop(done)
            try:
                yield bag, ray.get(done)
            except ray.exceptions.RayError as error:
                yield bag, Failure(bag, f"bag '{bag}': its workers ended: {error}.")
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        if not was_connected:
            ray.shutdown()


def _replay(job: ReplayJob, bag: Path) -> Outcome:
    """Replay one recording in a worker."""
    try:
        return replay_bag(job, bag)
    except VLAError as error:
        return Failure(bag, str(error))
