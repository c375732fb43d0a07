# SPDX-License-Identifier: MIT
import re

import pytest
import yaml

from vla_core.errors import ConfigError
from vla_core.training.recipe import TrainRecipe, available_recipes, load_recipe


@pytest.mark.parametrize("name", sorted(available_recipes()))
def test_shipped_recipe_is_valid(name):
    assert load_recipe(name).steps > 0


def test_groot_ships():
    assert load_recipe("groot").framework == "gr00t"


def test_recipe_comes_back_from_its_values(recipe_values):
    recipe = TrainRecipe.from_dict(recipe_values)
    assert TrainRecipe.from_dict(recipe.to_dict()) == recipe


def test_unknown_key_is_refused_with_the_valid_ones(recipe_values):
    with pytest.raises(ConfigError, match=r"unknown key 'lr'; valid keys: framework, contract"):
        TrainRecipe.from_dict(recipe_values | {"lr": 1e-3})


def test_unknown_key_of_a_section_is_refused_with_the_valid_ones(recipe_values):
    values = recipe_values | {"validation": recipe_values["validation"] | {"every": 5}}
    with pytest.raises(ConfigError, match=r"validation has unknown key 'every'.*every_steps"):
        TrainRecipe.from_dict(values)


def test_missing_key_is_named(recipe_values):
    recipe_values.pop("seed")
    with pytest.raises(ConfigError, match="recipe lacks 'seed'"):
        TrainRecipe.from_dict(recipe_values)


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        ("steps=0", "steps must be a positive whole number, got 0"),
        ("precision=fp8", "precision 'fp8' is unknown; available: 'fp32', 'bf16', 'fp16'"),
        (
            "optimizer.schedule=linear",
            "optimizer.schedule 'linear' is unknown; available: 'cosine'",
        ),
        ("lora.rank=4", "lora.rank trains the backbone, whose features then change"),
        ("rollout.every_steps=-1", "rollout.every_steps must be a positive whole number"),
        ("unfreeze_step=5", "cache_features is true; set cache_features=false"),
        ("curriculum=[{from_step: 5}]", "rising from_step, the first 0, got [5]"),
        ("curriculum=[{from_step: 0, horizon: 0}]", "curriculum.0.horizon must be a positive"),
        ("curriculum=[{step: 0}]", "curriculum.0 has unknown key 'step'; valid keys: from_step"),
        ("optimizer.ema_decay=1.0", "optimizer.ema_decay must be in [0, 1), got 1.0"),
        ("optimiser.learning_rate=1", "no section 'optimiser'; sections: 'vlm', 'model'"),
        ("steps", "override 'steps' must be key=value"),
        ("vlm.name", "must be key=value"),
        ("checkpoint.policy=first", "checkpoint.policy 'first' is unknown"),
    ],
)
def test_invalid_override_is_refused(override, cause):
    with pytest.raises(ConfigError, match=re.escape(cause)):
        load_recipe("groot", [override])


def test_overrides_reach_nested_keys():
    overrides = ["steps=20", "optimizer.learning_rate=1e-3", "model.dropout=0.1", "dataset=d/x"]
    recipe = load_recipe("groot", overrides)
    assert (recipe.steps, recipe.optimizer.learning_rate) == (20, 1e-3)
    assert (recipe.model["dropout"], recipe.dataset) == (0.1, "d/x")


def test_best_policy_needs_held_out_episodes():
    with pytest.raises(ConfigError, match=r"validation\.fraction is 0"):
        load_recipe("groot", ["checkpoint.policy=best", "validation.fraction=0"])


def test_recipe_is_read_from_a_path(tmp_path, recipe_values):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe_values))
    assert load_recipe(tmp_path / "own.yaml").batch_size == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: caf\u00e9".encode("latin-1"), "is not UTF-8 text.*save it as UTF-8"),
        (b"- groot", r"must be a mapping, got \['groot'\]"),
        (b"? [a]\n: 1", "key in line 1 must be a name, got a sequence"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, message):
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_recipe(tmp_path / "own.yaml", ["steps=1"])


def test_unknown_name_lists_the_shipped_recipes():
    with pytest.raises(ConfigError, match=r"recipe 'groott' cannot be read.*'groot'"):
        load_recipe("groott")


def test_differences_name_nested_keys():
    other = load_recipe("groot", ["optimizer.learning_rate=0.1"])
    assert other.differences(load_recipe("groot")) == [
        "optimizer.learning_rate is given as 0.1, stored as 0.0005"
    ]
