# SPDX-License-Identifier: MIT
"""What a recording asks for, and when, for whoever plays it."""

import json

import pytest

from vla_core.errors import DatasetError
from vla_core.evaluation.replay.settings import ReplaySettings
from vla_core.evaluation.replay.task_schedule import Task, read_tasks


@pytest.fixture
def spoken_bag(bags, tmp_path):
    """A robot that is asked for two things, with a pause between them."""
    spoken = [
        bags.Sent(at_ms, "/task", bags.STRING, bags.text(words))
        for at_ms, words in ((200, "pick"), (300, "pick"), (500, ""), (900, "place"))
    ]
    return bags.write_bag(tmp_path / "bag", [*bags.robot_messages(1000), *spoken])


def test_tasks_change_when_the_episode_topic_says_so(bags, spoken_bag):
    tasks = read_tasks(spoken_bag, ReplaySettings(episode_topic="task"), bags.make_contract())
    expected = [(200, "pick"), (500, ""), (900, "place")]
    assert tasks == [
        Task(0, ""),
        *(Task(bags.START_NS + at_ms * bags.MS, words) for at_ms, words in expected),
    ]


def test_by_the_clock_of_stamps_a_task_begins_with_the_joint_states_around_it(bags, spoken_bag):
    settings = ReplaySettings(episode_topic="task", clock="stamp")
    tasks = read_tasks(spoken_bag, settings, bags.make_contract())
    assert tasks[1] == Task(bags.START_NS + 190 * bags.MS, "pick")


def test_a_given_instruction_holds_from_the_start(bags, robot_bag):
    tasks = read_tasks(robot_bag, ReplaySettings(instruction="push"), bags.make_contract())
    assert tasks == [Task(0, "push")]


def test_the_note_of_the_recorder_holds_from_the_start(bags, tmp_path):
    notes = json.dumps({"instruction": "lift"})
    bag = bags.write_bag(tmp_path / "bag", bags.robot_messages(200), notes=notes)
    assert read_tasks(bag, ReplaySettings(), bags.make_contract()) == [Task(0, "lift")]


def test_a_recording_that_asks_for_nothing_is_refused(bags, robot_bag):
    with pytest.raises(DatasetError, match="says nowhere what the robot was asked to do"):
        read_tasks(robot_bag, ReplaySettings(), bags.make_contract())
