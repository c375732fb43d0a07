# SPDX-License-Identifier: MIT
"""`vla demo` with the shipped checkpoint, as a newcomer runs it."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import av
import psutil
import pytest

from vla_core.cli import main
from vla_core.evaluation.metrics import SuccessRate, intervals_overlap
from vla_core.evaluation.recorded_run import RecordedRun
from vla_core.processing.contract import load_contract

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture(scope="module")
def summary(finished_demo):
    assert finished_demo.status == 0, finished_demo.output
    return json.loads((finished_demo.folder / "summary.json").read_text())


def read_until(process, pattern):
    """Read lines until one matches; fail with all of them if the output ends before."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    pytest.fail(f"no line matches {pattern!r}:\n{''.join(lines)}")


def nodes_of(process):
    """The processes of the graph that a demonstration runs, by executable."""
    children = psutil.Process(process.pid).children(recursive=True)
    return {Path(child.cmdline()[1]).name: child for child in children}


def test_every_episode_has_its_line_and_the_end_its_interval(finished_demo, summary):
    for episode in summary["episodes"]:
        assert f"seed {episode['seed']}  {episode['instruction']}" in finished_demo.output
    rate = summary["success"]["normal"]
    assert f"{rate['successes']} of {rate['trials']}" in finished_demo.output
    assert f"{rate['lower']:.0%} to {rate['upper']:.0%}" in finished_demo.output


def test_the_policy_lifts_four_of_five_blocks(summary):
    rate = summary["success"]["normal"]
    outcomes = [episode["outcome"] for episode in summary["episodes"]]
    assert rate["successes"] >= 0.8 * rate["trials"], outcomes


def test_summary_says_whether_the_loops_had_real_time_priority(summary):
    assert set(summary["real_time_priority"]) == {"sim_robot_node", "command_node"}


def test_a_success_is_a_block_that_was_lifted(summary):
    for episode in summary["episodes"]:
        if episode["success"]:
            assert episode["lifted_m"][episode["target"]] >= 0.05


def test_nothing_is_rejected_and_the_commands_keep_their_rate(summary):
    assert summary["timing"]["rejected_trajectories"] == 0
    assert summary["timing"]["accepted_trajectories"] > 100
    assert summary["timing"]["command_period_s"]["p50"] == pytest.approx(0.02, abs=0.004)


def test_the_run_leaves_recording_film_pictures_and_report(finished_demo):
    with av.open(str(finished_demo.folder / "demo.mp4")) as film:
        assert sum(1 for _ in film.decode(film.streams.video[0])) > 20
    page = (finished_demo.folder / "report.html").read_text()
    assert "What the cameras saw" in page
    run = RecordedRun.from_bag(finished_demo.folder / "bag", load_contract("sim"))
    assert len(run.chunks.observation_ns) > 5


def test_the_whole_recording_is_replayed(finished_demo, summary):
    metrics = json.loads((finished_demo.folder / "replay/metrics.json").read_text())
    (bag,) = metrics["bags"]
    assert set(bag["instructions"]) == {each["instruction"] for each in summary["episodes"]}
    num_ticks = sum(bag["instructions"].values())
    assert num_ticks == summary["replay"]["answered"] > 10 * len(summary["episodes"])
    assert (finished_demo.folder / "replay/report.html").is_file()
    assert str(finished_demo.folder / "replay/report.html") in finished_demo.output


@pytest.fixture(scope="module")
def rollout(summary, tmp_path_factory):
    """The scenes of the demonstration in the gymnasium loop."""
    seeds = [episode["seed"] for episode in summary["episodes"]]
    folder = tmp_path_factory.mktemp("rollout")
    arguments = ["--episodes", str(len(seeds)), "--first-seed", str(seeds[0])]
    assert main(["rollout", *arguments, "--output", str(folder)]) == 0
    figures = json.loads((folder / "rollout.json").read_text())
    assert [episode["seed"] for episode in figures["episodes"]] == seeds
    return figures["success"]["normal"]


def test_gymnasium_and_ros_success_agree_on_the_same_scenes(summary, rollout):
    rate = summary["success"]["normal"]
    assert intervals_overlap((rollout["lower"], rollout["upper"]), (rate["lower"], rate["upper"]))


def test_the_scenes_are_enough_to_tell_a_policy_that_ros_breaks(rollout):
    broken = SuccessRate(successes=1, trials=rollout["trials"])
    assert not intervals_overlap((rollout["lower"], rollout["upper"]), broken.interval)


def test_every_trajectory_published_is_accounted_for(summary):
    timing = summary["timing"]
    judged = timing["accepted_trajectories"] + timing["rejected_trajectories"]
    assert timing["published_trajectories"] == pytest.approx(
        judged + timing["superseded_trajectories"], abs=5
    )


def test_ctrl_c_reports_the_episodes_done_and_ends_every_process(start_demo, tmp_path):
    process = start_demo("--episodes", "20", "--output", str(tmp_path))
    read_until(process, r"^ *1/20 ")
    nodes = nodes_of(process)
    assert set(nodes) == {"command_node", "policy_node", "recorder_node", "sim_robot_node"}
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert 1 <= summary["success"]["normal"]["trials"] < 20
    assert (tmp_path / "report.html").is_file()
    assert not any(node.is_running() for node in nodes.values())


def test_ctrl_c_in_the_gymnasium_part_reports_everything_that_was_done(start_demo, tmp_path):
    process = start_demo("--ablate", "--episodes", "1", "--output", str(tmp_path))
    read_until(process, r"^ *1/3 ")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [episode["condition"] for episode in summary["episodes"]] == [
        "normal",
        "swapped_instruction",
    ]
    assert summary["rollout"]["success"]["normal"]["trials"] == 1
    assert "black_images" not in summary["rollout"]["success"]
    assert "The run was interrupted" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "demo.mp4").is_file()


def test_ctrl_c_while_the_report_is_written_lets_it_be_finished(start_demo, tmp_path):
    process = start_demo("--episodes", "1", "--output", str(tmp_path))
    while not (tmp_path / "summary.json").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "finishing the report" in output
    assert "1 of 1" in (tmp_path / "report.html").read_text()
    with av.open(str(tmp_path / "demo.mp4")) as film:
        assert sum(1 for _ in film.decode(film.streams.video[0])) > 20


def test_a_node_that_dies_is_reported_with_its_name(start_demo, tmp_path):
    process = start_demo("--episodes", "20", "--output", str(tmp_path))
    read_until(process, r"^ *1/20 ")
    nodes_of(process)["policy_node"].kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "policy_node ended with signal SIGKILL" in output


def test_seeds_of_the_training_are_refused(start_demo):
    process = start_demo("--first-seed", "10")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "seen in training" in output
