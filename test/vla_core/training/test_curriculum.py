# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.training.curriculum import Curriculum
from vla_core.training.recipe_sections import StageRecipe

_TEXTS = ["Pick up the red block"] * 12 + ["Pick up the blue block"] * 12


def _curriculum(*stages, batch_size=4):
    return Curriculum(stages, torch.arange(24), [12, 12], _TEXTS, batch_size, seed=0)


def test_stage_draws_from_its_own_episodes_until_the_next_begins():
    stages = StageRecipe(from_step=0, episodes=[1, 2]), StageRecipe(from_step=3)
    curriculum = _curriculum(*stages)
    drawn = [curriculum.next_batch(step) for step in range(9)]
    assert torch.cat(drawn[:3]).sort().values.tolist() == list(range(12, 24))
    assert torch.cat(drawn[3:]).sort().values.tolist() == list(range(24))


def test_stage_is_chosen_by_the_words_of_its_instruction():
    curriculum = _curriculum(StageRecipe(from_step=0, instruction="red block"))
    assert max(curriculum.next_batch(0).tolist()) < 12


def test_what_is_validated_is_what_the_last_stage_is_about():
    stages = StageRecipe(from_step=0), StageRecipe(from_step=3, instruction="red")
    assert _curriculum(*stages).goal(torch.tensor([3, 11, 12, 20])).tolist() == [3, 11]
    assert _curriculum().goal(torch.tensor([3, 20])).tolist() == [3, 20]


def test_horizon_is_that_of_the_stage():
    stages = StageRecipe(from_step=0, horizon=2), StageRecipe(from_step=5)
    curriculum = _curriculum(*stages)
    assert [curriculum.horizon(step) for step in (0, 4, 5, 9)] == [2, 2, None, None]


def test_restored_curriculum_draws_alike_in_every_stage():
    stages = StageRecipe(from_step=0, episodes=[0, 1]), StageRecipe(from_step=3)
    first, second = _curriculum(*stages), _curriculum(*stages)
    for step in range(4):
        first.next_batch(step)
    second.load_state_dict(first.state_dict())
    for step in range(4, 8):
        assert torch.equal(first.next_batch(step), second.next_batch(step))


def test_stage_without_enough_frames_is_named():
    stages = StageRecipe(from_step=0), StageRecipe(from_step=3, instruction="red")
    with pytest.raises(ConfigError, match=r"curriculum\.1: batch_size is 16.* only 12 training"):
        _curriculum(*stages, batch_size=16)


def test_stage_to_which_nothing_belongs_says_what_there_is():
    stages = StageRecipe(from_step=0), StageRecipe(from_step=3, instruction="green")
    there = (
        r"\(instruction green\).*'Pick up the blue block', 'Pick up the red block'.*curriculum="
    )
    with pytest.raises(ConfigError, match=rf"curriculum\.1: none of the 24 .*{there}"):
        _curriculum(*stages)
