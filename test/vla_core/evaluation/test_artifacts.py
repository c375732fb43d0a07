# SPDX-License-Identifier: MIT
"""The files that a recorded run leaves behind."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import av
import pytest
from PIL import Image

from vla_core.errors import DatasetError
from vla_core.evaluation.artifacts import write_artifacts
from vla_core.evaluation.contact_sheet import find_moments
from vla_core.evaluation.report import render_report, write_report


@pytest.fixture(scope="module")
def folder(expert_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("out")
    write_artifacts(
        path,
        bag=expert_run.bag,
        contract=expert_run.contract,
        episodes=expert_run.episodes,
        facts={"checkpoint": "expert", "checkpoint_id": "none"},
    )
    return path


@pytest.fixture(scope="module")
def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_summary_holds_success_episodes_and_timing(summary, expert_run):
    assert summary["success"]["normal"]["trials"] == 2
    assert [episode["seed"] for episode in summary["episodes"]] == [1, 2]
    assert summary["timing"]["command_period_s"]["p99"] == pytest.approx(0.023)
    assert summary["recording"]["message_counts"]["/action_chunk"] > 0


def test_report_loads_nothing_from_outside(folder):
    page = (folder / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{1,40})', page)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "@import" not in page
    assert "<script" not in page


def test_report_states_the_figures_of_the_summary(folder, summary):
    page = (folder / "report.html").read_text()
    rate = summary["success"]["normal"]
    assert f"{rate['successes']} of {rate['trials']}" in page
    assert f"{rate['lower']:.0%} to {rate['upper']:.0%}" in page
    for episode in summary["episodes"]:
        assert f"{100 * episode['lifted_m'][episode['target']]:.1f} cm" in page


def test_report_accounts_for_every_trajectory(folder, summary):
    page = (folder / "report.html").read_text()
    timing = summary["timing"]
    assert f"Of {timing['published_trajectories']} trajectories published" in page
    assert f"accepted {timing['accepted_trajectories']} and rejected 2" in page
    assert f"{timing['superseded_trajectories']} were superseded" in page
    assert "time is not increasing" in page


def test_report_is_a_function_of_the_folder(folder):
    before = (folder / "report.html").read_bytes()
    assert write_report(folder).read_bytes() == before


def test_report_marks_a_goal_that_was_missed(summary):
    on_time = render_report({**summary, "episodes": []}, {})
    late = json.loads(json.dumps({**summary, "episodes": []}))
    late["timing"]["command_period_s"]["p99"] = 0.031
    assert '<b class="bad">31.0 ms</b>' in render_report(late, {})
    assert "<b>23.0 ms</b>" in on_time


@pytest.mark.parametrize(("rollout", "says"), [((9, 10), "overlap:"), ((1, 99), "do not overlap")])
def test_report_compares_the_two_loops(summary, rollout, says):
    lower, upper = {(9, 10): (0.6, 0.98), (1, 99): (0.0, 0.05)}[rollout]
    rate = {
        "successes": rollout[0],
        "trials": rollout[1],
        "rate": rollout[0] / rollout[1],
        "lower": lower,
        "upper": upper,
        "confidence": 0.95,
    }
    page = render_report({**summary, "rollout": {"success": {"normal": rate}}}, {})
    assert says in page


def test_report_says_that_the_run_was_interrupted(summary):
    assert "interrupted;" in render_report({**summary, "is_interrupted": True}, {})
    assert "interrupted;" not in render_report({**summary, "is_interrupted": False}, {})


@pytest.mark.parametrize(
    ("priorities", "says"),
    [
        ({"robot": 9, "command": 10}, "; real-time priority granted<"),
        ({"robot": 0, "command": 10}, "; real-time priority refused to robot<"),
        ({"robot": 0, "command": 0}, "; real-time priority refused to robot and command<"),
    ],
)
def test_report_says_whether_the_loops_had_real_time_priority(summary, priorities, says):
    assert says in render_report({**summary, "real_time_priority": priorities}, {})


def test_text_from_outside_is_escaped(summary):
    episodes = [{**summary["episodes"][0], "instruction": "<b>pick</b>"}]
    assert "&lt;b&gt;pick" in render_report({**summary, "episodes": episodes}, {})


def test_report_without_a_summary_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"summary\.json"):
        write_report(tmp_path)


def test_film_shows_both_cameras_and_holds_the_result(folder, expert_run):
    with av.open(str(folder / "demo.mp4")) as film:
        stream = film.streams.video[0]
        frames = sum(1 for _ in film.decode(stream))
        assert (stream.width, stream.height) == (768, 440)
    shown = sum(episode.duration_s for episode in expert_run.episodes)
    assert frames >= 10 * shown + 2 * 20


def test_contact_sheet_has_a_row_per_episode(folder, expert_run, tmp_path):
    with Image.open(folder / "contact_sheet.png") as sheet:
        width, height = sheet.size
    assert height % len(expert_run.episodes) == 0
    assert width > 4 * 2 * 150


def test_moments_of_a_grasp_are_in_order(expert_run):
    episode = expert_run.episodes[0]
    moments = find_moments(expert_run.recorded, expert_run.contract, episode)
    assert list(moments) == ["start", "approach", "grasp", "end"]
    assert list(moments.values()) == sorted(moments.values())


def test_episode_without_a_grasp_shows_its_thirds(expert_run):
    episode = expert_run.episodes[0]
    missed = replace(episode, lifted_m=dict.fromkeys(episode.lifted_m, 0.0))
    moments = find_moments(expert_run.recorded, expert_run.contract, missed)
    assert list(moments) == ["start", "1/3 of the time", "2/3 of the time", "end"]


def test_report_leads_to_the_replay_of_the_recording_where_there_is_one(summary):
    replay = {"page": "replay/report.html", "answered": 60, "error_rad": 0.0213}
    page = render_report({**summary, "replay": replay}, {})
    assert '<a href="replay/report.html">' in page
    assert "21.3 mrad" in page
    assert "replay/report.html" not in render_report({**summary, "replay": None}, {})
