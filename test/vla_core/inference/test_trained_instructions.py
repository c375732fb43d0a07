# SPDX-License-Identifier: MIT
import json
from pathlib import Path

import pytest

from vla_core.inference.checkpoint_files import find_checkpoint, shipped_checkpoints
from vla_core.inference.trained_instructions import (
    hint_at_instructions,
    read_trained_instructions,
)
from vla_core.sim.tasks import TASKS

_TRAINED = ("Pick up the red block", "pick up the blue block.", "wipe the table")


@pytest.fixture
def write_report(tmp_path):
    def write(**report):
        (tmp_path / "training.json").write_text(json.dumps(report))
        return tmp_path

    return write


@pytest.mark.parametrize(
    "instruction",
    ["pick up the red block", " pick  up the\nRED block. ", "pick up the blue block", "", "  "],
)
def test_case_spaces_and_a_final_stop_make_no_other_instruction(instruction):
    assert hint_at_instructions(instruction, _TRAINED) == ""


def test_other_words_are_named_in_one_line_with_the_nearest():
    hint = hint_at_instructions("pick up the\n red blocks", _TRAINED)
    assert hint == (
        "no demonstration that the policy was trained on says 'pick up the red blocks', so it may "
        "do something else; the nearest of them say: 'Pick up the red block', 'pick up the blue "
        "block.'"
    )


def test_words_that_are_like_none_get_examples():
    hint = hint_at_instructions("fold", _TRAINED * 9)
    assert hint.endswith(
        "some of them say: 'Pick up the red block', 'pick up the blue block.', 'wipe the table'"
    )


def test_nothing_is_said_where_the_instructions_are_not_known():
    assert hint_at_instructions("fold the shirt", ()) == ""


def test_a_curriculum_leaves_out_what_no_stage_is_about(write_report):
    dataset = {"instruction_texts": list(_TRAINED)}
    stages = [
        {"from_step": 0, "instruction": "RED block"},
        {"from_step": 9, "instruction": "wipe"},
    ]
    red_and_wipe = (_TRAINED[0], _TRAINED[2])
    for curriculum, expected in (
        ([], _TRAINED),
        (stages, red_and_wipe),
        ([*stages, {"from_step": 20, "instruction": None}], _TRAINED),
    ):
        folder = write_report(dataset=dataset, recipe={"curriculum": curriculum})
        assert read_trained_instructions(folder) == expected


@pytest.mark.parametrize(
    "report", [{}, {"dataset": {"instructions": 24}}, {"dataset": {"instruction_texts": None}}]
)
def test_report_with_a_count_alone_lists_no_instruction(write_report, report):
    assert read_trained_instructions(write_report(**report)) == ()


def test_missing_and_damaged_reports_list_no_instruction(tmp_path):
    assert read_trained_instructions(tmp_path) == ()
    (tmp_path / "training.json").write_text("{")
    assert read_trained_instructions(tmp_path) == ()


@pytest.mark.parametrize("checkpoint", shipped_checkpoints())
def test_shipped_policy_lists_every_wording_of_its_tasks(checkpoint):
    report = json.loads((find_checkpoint(checkpoint) / "training.json").read_text())
    datasets = report["recipe"]["dataset"]
    paths = [datasets] if isinstance(datasets, str) else [each["path"] for each in datasets]
    simulations = [TASKS[Path(path).name].simulation_class() for path in paths]
    wordings = {text for sim in simulations for each in sim.targets for text in sim.wordings(each)}
    texts = report["dataset"]["instruction_texts"]
    assert set(texts) == wordings
    assert len(texts) == report["dataset"]["instructions"]
