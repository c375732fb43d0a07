# SPDX-License-Identifier: MIT
"""Recordings spread over a Ray cluster of two nodes, one of which is lost, and a worker too."""

import shutil
import threading
import time
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from vla_core.errors import ConfigError
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.runner import Failure, ReplayJob, replay_bags
from vla_core.evaluation.replay.settings import ReplaySettings

_DEADLINE_S = 120.0
_NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture
def two_nodes():
    """A cluster of two nodes with a processor each, and its second node."""
    cluster = Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
    try:
        yield cluster, cluster.add_node(**_NODE)
    finally:
        cluster.shutdown()


class Saboteur(threading.Thread):
    """Kills the first node's first worker that replays a recording, and all of the second node."""

    def __init__(self, cluster, second):
        super().__init__(daemon=True)
        self._cluster, self._second = cluster, second
        self.is_worker_killed = self.is_node_killed = False

    def run(self):
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline and not (self.is_worker_killed and self.is_node_killed):
            if not self.is_worker_killed and (worker := _find_worker(self._cluster.head_node)):
                worker.kill()
                self.is_worker_killed = True
            if not self.is_node_killed and _find_worker(self._second):
                self._cluster.remove_node(self._second, allow_graceful=False)
                self.is_node_killed = True
            time.sleep(0.05)


def _find_worker(node):
    """Return a process of a node that replays a recording."""
    for raylet in node.all_processes.get("raylet", []):
        try:
            for process in psutil.Process(raylet.process.pid).children(recursive=True):
                if "ray::_replay" in " ".join(process.cmdline()):
                    return process
        except psutil.Error:
            continue
    return None


def test_a_killed_worker_and_a_lost_node_cost_nothing_and_a_broken_recording_only_itself(
    two_nodes, checkpoint, robot_bag, result, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    bags = [Path(shutil.copytree(robot_bag, f"good_{number}")) for number in range(2)]
    broken = tmp_path / "bad.mcap"
    broken.write_bytes(b"")
    settings = ReplaySettings(instruction="pick", num_worst=0, probe_every=0)
    job = ReplayJob(checkpoint=str(checkpoint), settings=settings, folder=tmp_path / "out")
    cluster, second = two_nodes
    saboteur = Saboteur(cluster, second)
    saboteur.start()
    outcomes = dict(replay_bags(job, [*bags, broken], ray_address=cluster.address))
    assert saboteur.is_worker_killed
    assert saboteur.is_node_killed
    assert isinstance(outcomes[broken], Failure)
    for bag in bags:
        assert isinstance(outcomes[bag], BagResult)
        assert (outcomes[bag].ticks["predicted"] == result.ticks["predicted"]).all()
        assert job.finished(bag) is not None


def test_a_cluster_that_does_not_answer_is_named(checkpoint, robot_bag, tmp_path):
    job = ReplayJob(checkpoint=str(checkpoint), settings=ReplaySettings(), folder=tmp_path)
    with pytest.raises(ConfigError, match=r"cluster '127.0.0.1:1' does not answer: .*refused"):
        list(replay_bags(job, [robot_bag], ray_address="127.0.0.1:1"))
