# SPDX-License-Identifier: MIT
"""The page about the robot contract has exactly the keys, defaults and choices of the code."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from vla_core.processing import contract as parts
from vla_core.processing.contract_inputs import CAMERA_TRANSPORTS, INPUT_COMPONENTS, STATE_FIELDS
from vla_core.processing.contract_outputs import DELTA_FRAMES, GRIPPER_MODES, GRIPPER_OUTPUTS
from vla_core.processing.contract_safety import LIMIT_MODES

PAGE = (Path(__file__).resolve().parents[2] / "docs/robot_contract.md").read_text(encoding="utf-8")
SECTIONS = {
    "contract": parts.RobotContract,
    "cameras.<name>": parts.CameraContract,
    "state": parts.StateContract,
    "action": parts.ActionContract,
    "command": parts.CommandContract,
    "limits.<joint>": parts.JointLimits,
    "inputs.<name>": parts.InputContract,
    "alignment": parts.AlignmentContract,
    "grippers.<joint>": parts.GripperContract,
    "kinematics": parts.KinematicsContract,
    "workspace": parts.WorkspaceContract,
    "safety": parts.SafetyContract,
}
CHOICES = {
    ("cameras.<name>", "transport"): CAMERA_TRANSPORTS,
    ("state", "fields"): STATE_FIELDS,
    ("action", "kind"): parts.ACTION_KINDS,
    ("action", "delta_frame"): DELTA_FRAMES,
    ("command", "output"): parts.COMMAND_OUTPUTS,
    ("inputs.<name>", "type"): INPUT_COMPONENTS,
    ("grippers.<joint>", "mode"): GRIPPER_MODES,
    ("grippers.<joint>", "output"): GRIPPER_OUTPUTS,
    ("safety", "limit_mode"): LIMIT_MODES,
}
each_section = pytest.mark.parametrize("section", SECTIONS)


def rows(section):
    """Return default and meaning by key, in the order of the page."""
    text = PAGE.split(f"\n## `{section}`\n")[1].split("\n## ")[0]
    return {
        key: (default, meaning)
        for key, default, meaning in re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", text, re.M)
    }


def default_of(field):
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if hasattr(value, "__dataclass_fields__"):
        return {}
    return list(value) if isinstance(value, tuple) else value


def test_the_page_has_a_section_for_each_part():
    assert re.findall(r"^## `(.+)`$", PAGE, re.M) == list(SECTIONS)


@each_section
def test_a_section_has_the_keys_in_their_order(section):
    assert list(rows(section)) == [field.name for field in fields(SECTIONS[section])]


@each_section
def test_a_section_gives_the_defaults(section):
    table = rows(section)
    for field in fields(SECTIONS[section]):
        shown, _ = table[field.name]
        if field.default is MISSING and field.default_factory is MISSING:
            assert shown == "required", field.name
        else:
            assert yaml.safe_load(shown.strip("`")) == default_of(field), field.name


@pytest.mark.parametrize("place", CHOICES, ids=".".join)
def test_every_choice_is_explained(place):
    section, key = place
    _, meaning = rows(section)[key]
    assert [choice for choice in CHOICES[place] if f"`{choice}`" not in meaning] == []
