# SPDX-License-Identifier: MIT
"""Recordings spread over a Ray cluster.

Checkpoint and recordings must be there by the same paths, as on a shared disk. A worker that is
killed, or whose node is lost, loses the recording that it replayed; another one begins it anew.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vla_core.errors import ConfigError
from vla_core.evaluation.replay.runner import Failure, Outcome, ReplayJob, attempt

LOCAL = "local"

_MAX_RETRIES = 3
_ANSWER_S = 5.0
_OBJECT_STORE_BYTES = 100 * 1024 * 1024  # a result has some 100 kB


def replay_on_cluster(
    job: ReplayJob, bags: Sequence[Path], address: str
) -> Iterator[tuple[Path, Outcome]]:
    """Replay every recording in a task of its own.

    Args:
        job: What to do.
        bags: The recordings.
        address: The cluster: ``'auto'`` for the one of this machine, ``'head:6379'`` or
            ``'ray://head:10001'``. ``'local'`` starts processes on this machine.

    Yields:
        A recording and its outcome, as they come.

    Raises:
        ConfigError: Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("--ray needs ray; run pip install 'vla_core[ray]'.") from error
    if not bags:
        return
    _connect(ray, address, min(len(bags) * job.num_threads, os.cpu_count() or 1))
    # Each worker gets a GPU of its own; older Rays hide them from who asks for none.
    num_gpus = 1 if job.device == "cuda" else 0
    options = ray.remote(num_cpus=job.num_threads, num_gpus=num_gpus, max_retries=_MAX_RETRIES)
    task = options(_replay)
    folder = Path.cwd()
    pending = {task.remote(job, bag, folder): bag for bag in bags}
    try:
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            bag = pending.pop(done)
            try:
                outcome = ray.get(done)
            except ray.exceptions.RayTaskError:
                raise  # a fault of the program, as without a cluster
            except ray.exceptions.RayError as error:
                outcome = Failure(bag, f"bag '{bag}': its workers ended: {error}.")
            yield bag, outcome
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str, num_cpus: int) -> None:
    """Start or find the cluster.

    Raises:
        ConfigError: It does not answer.
    """
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address == LOCAL:
        options |= {
            "num_cpus": num_cpus,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if host:
            # Ray itself goes on trying for minutes.
            socket.create_connection((host, int(port)), _ANSWER_S).close()
        ray.init(address=address, **options)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ConfigError(
            f"Ray cluster '{address}' does not answer: {error}. Give HOST:PORT as `ray start` "
            "says it, auto, or local; RAY_AUTH_MODE=token if the cluster was started with a token."
        ) from error


def _replay(job: ReplayJob, bag: Path, folder: Path) -> Outcome:
    """Replay one recording in a worker; paths mean what they mean to who asks."""
    os.chdir(folder)
    return attempt(job, bag, lambda elapsed_s, duration_s: None)
