# SPDX-License-Identifier: MIT
"""Many recordings: each result is kept as it comes, one that is broken stops no other."""

import dataclasses

import pytest

from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.runner import Failure, ReplayJob, replay_bags
from vla_core.evaluation.replay.settings import ReplaySettings


@pytest.fixture(scope="module")
def fleet(bags, tmp_path_factory):
    """Two good recordings and one whose file is empty."""
    folder = tmp_path_factory.mktemp("fleet")
    paths = [
        bags.write_bag(folder / name, bags.robot_messages(400)) / f"{name}.mcap"
        for name in ("one", "two")
    ]
    (folder / "three.mcap").write_bytes(b"")
    return [*paths, folder / "three.mcap"]


@pytest.fixture
def job(checkpoint, tmp_path):
    settings = ReplaySettings(instruction="pick", num_worst=0, probe_every=0)
    return ReplayJob(checkpoint=str(checkpoint), settings=settings, folder=tmp_path)


def test_a_broken_recording_is_named_and_the_others_are_replayed(job, fleet):
    outcomes = dict(replay_bags(job, fleet))
    kinds = [type(outcomes[bag]) for bag in fleet]
    assert kinds == [BagResult, BagResult, Failure]
    assert "three.mcap' cannot be" in outcomes[fleet[2]].reason


def test_an_interrupted_run_goes_on_where_it_stopped(job, fleet):
    interrupted = replay_bags(job, fleet)
    first, _ = next(interrupted)
    interrupted.close()
    replayed = set()
    outcomes = list(
        replay_bags(job, fleet, resume=True, on_progress=lambda bag, *_: replayed.add(bag))
    )
    assert first not in replayed
    assert fleet[1] in replayed
    assert len(outcomes) == 3


def test_a_result_without_the_file_that_is_asked_for_is_not_taken(job, fleet):
    list(replay_bags(job, fleet[:1]))
    with_file = dataclasses.replace(job, writes_mcap=True)
    assert with_file.finished(fleet[0]) is None
    list(replay_bags(with_file, fleet[:1]))
    assert with_file.finished(fleet[0]) is not None


def test_results_of_other_settings_are_not_taken(job, fleet):
    list(replay_bags(job, fleet[:1]))
    other = dataclasses.replace(job, settings=dataclasses.replace(job.settings, seed=1))
    assert job.finished(fleet[0]) is not None
    assert other.finished(fleet[0]) is None
