# SPDX-License-Identifier: MIT
import json
import os
import signal
import subprocess

import pytest

from vla_ros.demo import (
    ARTIFACTS,
    last_report,
    move_artifacts,
    postponed_interrupt,
    read_rollout,
)
from vla_ros.private_domain import private_domain


def test_two_runs_get_different_domains():
    with private_domain() as first, private_domain() as second:
        assert first != second
        assert os.environ["ROS_DOMAIN_ID"] == str(second)


def test_domain_is_free_again_after_the_run():
    with private_domain() as first:
        pass
    with private_domain() as second:
        assert second == first


def test_private_domain_restores_the_environment(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE", raising=False)
    with private_domain():
        assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert os.environ["ROS_DOMAIN_ID"] == "7"
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE" not in os.environ


def test_private_domain_is_released_when_the_run_fails():
    with pytest.raises(KeyError), private_domain() as first:
        raise KeyError
    with private_domain() as second:
        assert second == first


def test_only_results_of_a_demonstration_are_moved(tmp_path):
    folder, aside = tmp_path / "demo", tmp_path / "aside"
    (folder / "bag").mkdir(parents=True)
    (folder / "bag" / "bag.mcap").touch()
    (folder / "summary.json").touch()
    (folder / "notes.txt").write_text("mine")
    move_artifacts(folder, aside)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert sorted(path.name for path in aside.iterdir()) == ["bag", "summary.json"]


def test_moved_results_replace_what_lies_there(tmp_path):
    for name, text in (("old", "old"), ("new", "new")):
        (tmp_path / name / "bag").mkdir(parents=True)
        (tmp_path / name / "bag" / f"{name}.mcap").touch()
        (tmp_path / name / "summary.json").write_text(text)
    move_artifacts(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in (tmp_path / "old" / "bag").iterdir()] == ["new.mcap"]
    assert (tmp_path / "old" / "summary.json").read_text() == "new"


def test_run_whose_checkpoint_is_missing_says_so_and_keeps_the_results_of_the_one_before(tmp_path):
    (tmp_path / "summary.json").write_text("before")
    result = subprocess.run(
        [
            "vla",
            "demo",
            "--episodes=1",
            "--checkpoint=/no/such/checkpoint",
            f"--output={tmp_path}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert "'/no/such/checkpoint' is neither a directory nor shipped" in result.stdout
    assert (tmp_path / "summary.json").read_text() == "before"
    assert not (tmp_path / "bag").exists()


def test_artifacts_are_names_inside_the_folder():
    assert all("/" not in name and not name.startswith(".") for name in ARTIFACTS)


def test_report_of_a_failed_node_is_from_its_end_to_that_of_the_graph(tmp_path):
    log = tmp_path / "nodes.log"
    log.write_text(
        "policy_node | fine\n"
        "policy_node ended with status 1; its last lines:\n    bad\n"
        "stopping the graph.\nrecorder_node | 5 messages\n"
    )
    assert last_report(log) == ["policy_node ended with status 1; its last lines:", "    bad"]


def test_graph_without_a_failed_node_has_no_report(tmp_path):
    (tmp_path / "nodes.log").write_text("policy_node | fine\n")
    assert last_report(tmp_path / "nodes.log") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_interrupt_lets_the_work_end(number):
    done = []
    with postponed_interrupt(lambda: done.append("told")):
        os.kill(os.getpid(), number)
        done.append("work")
    assert done == ["told", "work"]


def test_second_interrupt_ends_the_work_at_once():
    done = []

    def work():
        with postponed_interrupt(lambda: done.append("told")):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            done.append("work")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["told"]


def test_interrupts_are_as_before_when_the_work_has_ended():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with postponed_interrupt(lambda: None):
        os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_figures_of_a_gymnasium_run_without_an_episode_are_none(tmp_path):
    figures = tmp_path / "rollout.json"
    assert read_rollout(figures) is None
    figures.write_text(json.dumps({"success": {}, "episodes": []}))
    assert read_rollout(figures) is None
    figures.write_text(json.dumps({"success": {}, "episodes": [{"seed": 1}]}))
    assert read_rollout(figures) == {"success": {}, "episodes": [{"seed": 1}]}
