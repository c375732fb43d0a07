# SPDX-License-Identifier: MIT
"""A replay in two processes finds what one process finds, and neither is left behind."""

import os
import signal

import numpy as np
import psutil
import pytest

from vla_core.dataset.recording import Recording
from vla_core.errors import DatasetError, SafetyError
from vla_core.evaluation.replay.bag_replay import BagReplay
from vla_core.evaluation.replay.inference import LocalInference
from vla_core.evaluation.replay.replay_process import ReplayProcess
from vla_core.evaluation.replay.runner import ReplayJob, replay_bags
from vla_core.evaluation.replay.settings import ReplaySettings

_DURATIONS = {"wall_s", "inference_s", "probing_s"}
_SETTINGS = ReplaySettings(instruction="pick", num_worst=2, probe_every=5)


@pytest.fixture(scope="module")
def process():
    with ReplayProcess() as process:
        yield process


@pytest.fixture
def job(checkpoint, tmp_path):
    return ReplayJob(checkpoint=str(checkpoint), settings=_SETTINGS, folder=tmp_path)


def ignore(elapsed_s, duration_s):
    """Show nothing."""


def children():
    """Return the processes that a replay has started."""
    return [
        child
        for child in psutil.Process().children()
        if "spawn_main" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE
    ]


def require_equal(found, expected):
    """Compare all but how long things took."""
    for part in ("ticks", "horizon", "probes"):
        arrays = getattr(found, part)
        assert arrays.keys() == getattr(expected, part).keys()
        for name, values in getattr(expected, part).items():
            if name != "latency_s":
                np.testing.assert_array_equal(arrays[name], values, name)
    assert found.frames == expected.frames
    for name in expected.facts.keys() - _DURATIONS:
        assert found.facts[name] == expected.facts[name], name


def test_two_processes_find_what_one_finds(process, job, policy, robot_bag, result):
    shown = []
    found = process.replay(job, robot_bag, policy, lambda *progress: shown.append(progress))
    require_equal(found, result)
    assert len(shown) == result.facts["ticks"]["total"]
    assert (found.ticks["latency_s"] > 0.0).all()
    assert found.facts["inference_s"] == pytest.approx(found.ticks["latency_s"].sum())


def test_the_error_of_a_bad_recording_arrives_and_the_next_one_is_replayed(
    process, job, robot_bag, result, tmp_path
):
    bad = tmp_path / "bad.mcap"
    bad.write_bytes((next(robot_bag.glob("*.mcap"))).read_bytes()[:20_000])
    alone = dict(replay_bags(job, [bad]))
    both = dict(replay_bags(job, [bad, robot_bag], process=process))
    assert both[bad] == alone[bad]
    require_equal(both[robot_bag], result)


def test_the_error_of_a_policy_arrives_and_the_next_replay_goes_well(
    process, job, policy, robot_bag, result, monkeypatch
):
    def fail(observation, *, seed):
        raise SafetyError("not finite")

    monkeypatch.setattr(policy, "predict_chunk", fail)
    with pytest.raises(SafetyError, match="not finite"):
        process.replay(job, robot_bag, policy, ignore)
    monkeypatch.undo()
    require_equal(process.replay(job, robot_bag, policy, ignore), result)


def test_a_replay_that_is_interrupted_closes_its_files_and_leaves_no_process(
    checkpoint, policy, robot_bag, tmp_path
):
    job = ReplayJob(
        checkpoint=str(checkpoint), settings=_SETTINGS, folder=tmp_path, writes_mcap=True
    )
    before = len(children())

    def interrupt(elapsed_s, duration_s):
        (own,) = set(children()) - others
        # Ctrl-C reaches all processes of a terminal; the other one waits to be ended.
        os.kill(own.pid, signal.SIGINT)
        if elapsed_s > 0.4:
            raise KeyboardInterrupt

    others = set(children())
    with pytest.raises(KeyboardInterrupt), ReplayProcess() as process:
        process.replay(job, robot_bag, policy, interrupt)
    assert len(children()) == before
    with Recording(tmp_path / "predictions" / job.bag_name(robot_bag)) as recording:
        assert recording.message_counts["/replay/predicted"] >= 1


def test_a_process_that_is_killed_costs_one_recording(process, job, policy, robot_bag, result):
    others = {child.pid for child in children()}

    def kill(elapsed_s, duration_s):
        for pid in others:
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(DatasetError, match=r"was not replayed to its end: .* status -9"):
        process.replay(job, robot_bag, policy, kill)
    require_equal(process.replay(job, robot_bag, policy, ignore), result)


class LateInference(LocalInference):
    """Answers only when an answer is waited for, as another process may."""

    num_ahead = 3

    def __init__(self, policy):
        super().__init__(policy)
        self.num_waiting = self.most = 0

    def ask(self, observation, seed):
        self.num_waiting += 1
        self.most = max(self.most, self.num_waiting)

        def answer():
            self.num_waiting -= 1
            return super(LateInference, self).ask(observation, seed)()

        return answer


def test_few_observations_wait_for_their_answers(policy, robot_bag, result):
    inference = LateInference(policy)
    require_equal(BagReplay(inference, robot_bag, _SETTINGS).run(), result)
    num_checks = len(result.probes) // 2 - 1 + 1
    assert inference.num_ahead < inference.most <= inference.num_ahead + 1 + num_checks


def test_a_replay_that_ends_early_asks_no_more(policy, robot_bag):
    inference = LateInference(policy)
    settings = ReplaySettings(instruction="pick", num_worst=0, probe_every=0, max_ticks=5)
    assert BagReplay(inference, robot_bag, settings).run().facts["ticks"]["answered"] == 5
    assert inference.num_waiting == 0
