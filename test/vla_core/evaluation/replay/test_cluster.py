# SPDX-License-Identifier: MIT
"""Recordings spread over a Ray cluster on this machine, one of whose workers is killed."""

import threading
import time

import psutil
import pytest

from vla_core.errors import ConfigError
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.runner import Failure, ReplayJob, replay_bags
from vla_core.evaluation.replay.settings import ReplaySettings

_DEADLINE_S = 120.0


class WorkerKiller(threading.Thread):
    """Kills the first worker that replays a recording."""

    def __init__(self):
        super().__init__(daemon=True)
        self.killed = None

    def run(self):
        deadline = time.monotonic() + _DEADLINE_S
        while self.killed is None and time.monotonic() < deadline:
            for process in psutil.Process().children(recursive=True):
                try:
                    if "ray::_replay" in " ".join(process.cmdline()):
                        process.kill()
                        self.killed = process.pid
                        return
                except psutil.Error:
                    continue
            time.sleep(0.05)


def test_a_killed_worker_costs_nothing_and_a_broken_recording_only_itself(
    bags, checkpoint, robot_bag, result, tmp_path, monkeypatch
):
    monkeypatch.chdir(robot_bag.parent)
    good = robot_bag.relative_to(robot_bag.parent)
    broken = tmp_path / "bad.mcap"
    broken.write_bytes(b"")
    settings = ReplaySettings(instruction="pick", num_worst=0, probe_every=0)
    job = ReplayJob(checkpoint=str(checkpoint), settings=settings, folder=tmp_path / "out")
    killer = WorkerKiller()
    killer.start()
    outcomes = dict(replay_bags(job, [good, broken], ray_address="local"))
    assert killer.killed is not None
    assert isinstance(outcomes[broken], Failure)
    assert isinstance(outcomes[good], BagResult)
    assert (outcomes[good].ticks["predicted"] == result.ticks["predicted"]).all()
    assert job.finished(good) is not None


def test_a_cluster_that_does_not_answer_is_named(checkpoint, robot_bag, tmp_path):
    job = ReplayJob(checkpoint=str(checkpoint), settings=ReplaySettings(), folder=tmp_path)
    with pytest.raises(ConfigError, match=r"cluster '127.0.0.1:1' does not answer: .*refused"):
        list(replay_bags(job, [robot_bag], ray_address="127.0.0.1:1"))
