# SPDX-License-Identifier: MIT
"""Reading a recording and computing what it says about timing."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from vla_core.dataset.recording import Recording
from vla_core.errors import DatasetError
from vla_core.evaluation.bag_statistics import BagStatistics, find_interruptions
from vla_core.evaluation.frames import iter_frames
from vla_core.evaluation.recorded_run import RecordedRun


@pytest.fixture(scope="module")
def statistics(expert_run):
    return BagStatistics.from_run(expert_run.recorded)


def test_latency_and_ages_are_differences_of_the_chunks_stamps(statistics):
    assert statistics.inference_latency_s == pytest.approx(0.080)
    assert statistics.camera_age_s["front"] == pytest.approx(0.030)
    assert statistics.camera_age_s["wrist"] == pytest.approx(0.030)
    assert statistics.joint_state_age_s == pytest.approx(0.005)


def test_command_period_leaves_out_the_pause_between_episodes(expert_run, statistics):
    assert np.diff(expert_run.recorded.commands.stamps_ns).max() > 1e9
    assert statistics.command_period_s.max() < 0.1


def test_command_period_is_what_the_loop_kept_not_what_it_planned(statistics):
    assert statistics.command_period_s.max() == pytest.approx(0.023)
    assert statistics.command_period_s.min() == pytest.approx(0.017)
    assert statistics.command_period_s.mean() == pytest.approx(0.020, abs=1e-4)


def test_arrivals_are_counted_within_one_stretch_of_execution(statistics):
    assert statistics.arrival_period_s.max() == pytest.approx(0.024)
    assert statistics.arrival_period_s.min() == pytest.approx(0.016)


def test_chunk_that_only_revokes_is_no_inference(expert_run):
    assert expert_run.recorded.message_counts["/action_chunk"] == 2 + len(
        expert_run.recorded.chunks.observation_ns
    )


def test_rejected_trajectories_are_those_of_the_last_report(statistics):
    figures = statistics.to_dict()
    assert figures["rejected_trajectories"] == 2
    assert figures["last_rejection"] == "time is not increasing"


def test_trajectories_are_counted_up_to_the_last_report(expert_run, statistics):
    recorded = expert_run.recorded.message_counts["/arm_controller/joint_trajectory"]
    after_the_report = 4
    assert statistics.published_trajectories == recorded - after_the_report


def test_trajectories_that_the_controller_never_judged_were_superseded(statistics):
    figures = statistics.to_dict()
    judged = figures["accepted_trajectories"] + figures["rejected_trajectories"]
    assert figures["superseded_trajectories"] > 0
    assert figures["published_trajectories"] == judged + figures["superseded_trajectories"]


def test_trajectory_that_the_recorder_missed_is_not_counted_as_superseded(statistics):
    missed = replace(statistics, published_trajectories=0)
    assert missed.to_dict()["superseded_trajectories"] == 0


def test_largest_switch_jump_is_that_of_the_worst_switch(statistics):
    assert statistics.to_dict()["largest_switch_jump"] == pytest.approx(0.002)


def test_interruptions_are_the_ticks_amid_an_episode_that_follow_no_chunk(expert_run):
    run = expert_run.recorded
    commands = run.commands
    assert find_interruptions(run, expert_run.episodes) == {}
    executing, reasons = commands.executing.copy(), list(commands.reasons)
    for tick in (20, 21):
        executing[tick], reasons[tick] = False, f"the joint state is 0.{tick} s old"
    late = replace(commands, executing=executing, reasons=tuple(reasons))
    interruptions = find_interruptions(replace(run, commands=late), expert_run.episodes)
    assert interruptions == {"the joint state is ... s old": pytest.approx(0.04)}


def test_command_speed_does_not_depend_on_missed_ticks(expert_run, statistics):
    speed = statistics.to_dict()["largest_command_speed"]
    assert speed > 0.5
    run = expert_run.recorded
    per_tick = {field.name for field in fields(run.commands)} - {"received_ns"}
    kept = {name: getattr(run.commands, name)[::2] for name in per_tick}
    halved = BagStatistics.from_run(replace(run, commands=replace(run.commands, **kept)))
    assert halved.to_dict()["largest_command_speed"] == pytest.approx(speed, rel=0.2)


def test_joints_are_read_in_the_order_of_the_contract(expert_run):
    run, contract = expert_run.recorded, expert_run.contract
    gripper = run.joint_positions[:, contract.state.joints.index("gripper_joint")]
    assert run.joint_positions.shape == (len(run.joint_stamps_ns), 7)
    assert gripper[0] == pytest.approx(0.04, abs=1e-3)
    assert gripper.min() < 0.025


def test_figures_are_json_even_when_nothing_happened(expert_run):
    run = expert_run.recorded
    idle = replace(run.commands, executing=np.zeros_like(run.commands.executing))
    figures = BagStatistics.from_run(replace(run, commands=idle)).to_dict()
    assert figures["command_period_s"] is None
    json.dumps(figures, allow_nan=False)


def test_frames_of_an_episode_stay_within_it(expert_run):
    episode = expert_run.episodes[1]
    with Recording(expert_run.bag) as recording:
        stamps = [
            frame.stamp_ns
            for frame in iter_frames(
                recording,
                expert_run.contract,
                start_ns=episode.start_stamp_ns,
                stop_ns=episode.end_stamp_ns,
            )
        ]
    assert len(stamps) >= 10
    assert episode.start_stamp_ns <= stamps[0] <= stamps[-1] < episode.end_stamp_ns


def test_missing_topic_is_refused_with_the_topics_that_exist(expert_run):
    with (
        Recording(expert_run.bag) as recording,
        pytest.raises(DatasetError, match=r"top_camera/image_raw.*/front_camera/image_raw"),
    ):
        recording.topic("top_camera/image_raw")


def test_folder_without_a_finished_recording_is_refused(tmp_path, expert_run):
    with pytest.raises(DatasetError, match=r"metadata\.yaml"):
        RecordedRun.from_bag(tmp_path, expert_run.contract)


def test_truncated_recording_is_refused(tmp_path, expert_run):
    for path in expert_run.bag.iterdir():
        data = path.read_bytes()
        half = data[: len(data) // 2] if path.suffix == ".mcap" else data
        (tmp_path / path.name).write_bytes(half)
    with pytest.raises(DatasetError, match=str(tmp_path)):
        RecordedRun.from_bag(tmp_path, expert_run.contract)
