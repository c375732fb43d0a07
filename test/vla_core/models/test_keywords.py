# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from vla_core.errors import ConfigError
from vla_core.models.keywords import check_choice, check_keywords, check_sizes, check_value_types


def make_arm(length=1.0, joints=6):
    return length, joints


def test_known_keywords_pass():
    check_keywords(make_arm, {"joints": 7})


def test_unknown_keywords_are_named_with_the_valid_ones():
    with pytest.raises(
        ConfigError, match=r"make_arm has unknown keys \['lenght'\]; valid: length, j"
    ):
        check_keywords(make_arm, {"lenght": 2.0})


class Base:
    def __init__(self, length, joints=6):
        self.length, self.joints = length, joints


class Derived(Base):
    def __init__(self, colour="red", **keywords):
        super().__init__(**keywords)
        self.colour = colour


def test_keywords_that_a_class_hands_to_its_base_are_known():
    check_keywords(Derived, {"colour": "blue", "length": 2.0})
    with pytest.raises(ConfigError, match="valid: colour, length, joints"):
        check_keywords(Derived, {"color": "blue"})


def test_a_value_outside_the_choices_is_refused_with_them():
    check_choice("gait", "walk", ("walk", "trot"))
    with pytest.raises(ConfigError, match="gait must be one of 'walk', 'trot', got 'run'"):
        check_choice("gait", "run", ("walk", "trot"))


def make_leg(length: float, joints: int = 3, name: str | None = None, foot: object = None):
    return length, joints, name, foot


def test_values_of_the_annotated_types_pass():
    check_value_types(make_leg, {"length": 1, "joints": 4, "name": None, "foot": [1, 2]})


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"length": "1"}, "length of make_leg must be float, got '1'"),
        ({"length": float("inf")}, "length of make_leg must be float, got inf"),
        ({"joints": 3.0}, "joints of make_leg must be int, got 3.0"),
        ({"joints": True}, "joints of make_leg must be int, got True"),
        ({"name": []}, r"name of make_leg must be str or None, got \[\]"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(keywords, message):
    with pytest.raises(ConfigError, match=message):
        check_value_types(make_leg, keywords)


def test_sizes_start_at_one():
    check_sizes(action_dim=1, chunk_size=50)
    with pytest.raises(ConfigError, match="chunk_size must be at least 1, got 0"):
        check_sizes(action_dim=7, chunk_size=0)
