# SPDX-License-Identifier: MIT
"""Results of episodes and their file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vla_core.errors import ConfigError, DatasetError
from vla_core.evaluation.episodes import (
    BLACK_IMAGES,
    NORMAL,
    EpisodeResult,
    append_result,
    describe_outcome,
    other_target,
    read_results,
    success_by_condition,
)

RESULT = EpisodeResult(
    number=1,
    seed=100_000,
    condition=NORMAL,
    instruction="pick up the red block",
    target="red",
    success=True,
    outcome="success",
    duration_s=6.5,
    lifted_m={"red": 0.08, "green": 0.0, "blue": 0.001},
)


def test_results_survive_their_file(tmp_path):
    results = [RESULT, replace(RESULT, number=2, success=False, outcome="time-out")]
    for result in results:
        append_result(tmp_path / "episodes.jsonl", result)
    assert read_results(tmp_path / "episodes.jsonl") == results


def test_no_file_holds_no_results(tmp_path):
    assert read_results(tmp_path / "episodes.jsonl") == []


@pytest.mark.parametrize("line", ['{"number": 1', '{"number": 1, "sed": 3}'])
def test_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "episodes.jsonl"
    append_result(path, RESULT)
    with path.open("a") as lines:
        lines.write(line)
    with pytest.raises(DatasetError, match="line 2"):
        read_results(path)


@pytest.mark.parametrize(
    ("success", "failure", "said"),
    [
        (True, "", "success"),
        (False, "lifted the blue block", "lifted the blue block"),
        (False, "", "time-out"),
    ],
)
def test_outcome_is_success_or_why_not(success, failure, said):
    assert describe_outcome(success=success, failure=failure) == said


def test_task_with_one_target_cannot_be_swapped():
    with pytest.raises(ConfigError, match="nothing else than 'bar'"):
        other_target("bar", ("bar",))


@pytest.mark.parametrize("target", ["red", "green", "blue"])
def test_swapped_target_is_another_colour_of_the_scene(target):
    colours = ("red", "green", "blue")
    assert other_target(target, colours) in set(colours) - {target}


def test_success_is_counted_per_condition():
    results = [RESULT, RESULT, replace(RESULT, condition=BLACK_IMAGES, success=False)]
    rates = success_by_condition(results)
    assert {name: (rate.successes, rate.trials) for name, rate in rates.items()} == {
        NORMAL: (2, 2),
        BLACK_IMAGES: (0, 1),
    }
