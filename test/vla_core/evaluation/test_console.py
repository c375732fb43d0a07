# SPDX-License-Identifier: MIT
"""Lines for a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from vla_core.evaluation.console import describe_episode, success_table
from vla_core.evaluation.episodes import BLACK_IMAGES, NORMAL, EpisodeResult

RESULT = EpisodeResult(
    number=3,
    seed=200_002,
    condition=NORMAL,
    instruction="pick up the red block",
    target="red",
    success=True,
    outcome="success",
    duration_s=6.52,
    lifted_m={"red": 0.083, "green": 0.2},
)


def test_line_says_number_seed_instruction_outcome_time_and_height():
    line = " ".join(describe_episode(RESULT, 50).plain.split())
    assert line == "3/50 seed 200002 pick up the red block success 6.5 s lifted 8.3 cm"


def test_lines_of_a_run_are_aligned():
    lines = [
        describe_episode(replace(RESULT, number=number, outcome=outcome), 50).plain
        for number, outcome in ((1, "success"), (50, "lifted the green block"))
    ]
    assert lines[0].index("lifted  8.3") == lines[1].rindex("lifted  8.3")


def test_line_of_an_ablation_says_which():
    assert "black images" in describe_episode(replace(RESULT, condition=BLACK_IMAGES), 5).plain


@pytest.mark.parametrize("width", [60, 200])
def test_table_shows_every_condition_with_its_interval(width):
    output = io.StringIO()
    results = [RESULT, replace(RESULT, condition=BLACK_IMAGES, success=False)]
    Console(file=output, width=width).print(success_table(results))
    text = " ".join(output.getvalue().split())
    assert "1 of 1 100% 21% to 100%" in text
    assert "0 of 1 0% 0% to 79%" in text
