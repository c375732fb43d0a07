# SPDX-License-Identifier: MIT
"""The page about training has exactly the keys of a recipe."""

import re
from dataclasses import fields
from pathlib import Path

from vla_core.training.recipe import SECTIONS, TrainRecipe
from vla_core.training.recipe_sections import DatasetRecipe, StageRecipe

PAGE = (Path(__file__).resolve().parents[2] / "docs/training.md").read_text(encoding="utf-8")


def test_page_has_exactly_the_keys_of_a_recipe():
    sections = {**SECTIONS, "curriculum": StageRecipe, "dataset": DatasetRecipe}
    keys = {key.name for key in fields(TrainRecipe)} - sections.keys() | {"dataset"}
    for name, section in sections.items():
        keys |= {f"{name}.{key.name}" for key in fields(section)}
    _, _, table = PAGE.partition("## Keys of a recipe")
    assert set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)) == keys
