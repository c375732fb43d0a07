# SPDX-License-Identifier: MIT
"""The files of the messages, services and actions, as a reader meets them."""

from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src/vla_msgs"
KINDS = ("msg", "srv", "action")
INTERFACES = [path for kind in KINDS for path in sorted(PACKAGE.glob(f"{kind}/*.{kind}"))]


def uncommented_fields(text):
    """Return the fields and constants with a comment neither behind them nor right above."""
    above, fields = "", []
    for line in map(str.strip, text.splitlines()):
        is_field = line and not line.startswith("#") and line != "---"
        if is_field and "#" not in line and not above.startswith("#"):
            fields.append(line)
        above = line
    return fields


@pytest.mark.parametrize("path", INTERFACES, ids=lambda path: path.name)
def test_every_field_has_a_comment(path):
    assert uncommented_fields(path.read_text()) == []


def named_fields(text):
    """Return the fields whose values a viewer names: by the constants of the type before them."""
    fields, constants_of = [], None
    for line in text.splitlines():
        type_name, _, rest = line.partition("#")[0].strip().partition(" ")
        if "=" in rest:
            constants_of = type_name
        elif rest:
            if type_name == constants_of:
                fields.append(rest)
            constants_of = None
    return fields


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("msg/ActionChunk.msg", ["kind"]),
        ("msg/CommandStatus.msg", ["mode", "source"]),
        ("msg/PolicyStatus.msg", ["state"]),
        ("action/ExecuteInstruction.action", ["outcome"]),
    ],
)
def test_constants_are_just_before_the_field_that_has_them(path, fields):
    assert named_fields((PACKAGE / path).read_text()) == fields


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("# What.\n\nuint8 kind\n", ["uint8 kind"]),
        ("# Why.\nuint8 kind\nuint8 state\n", ["uint8 state"]),
        ("uint8 IDLE=0 # rests\n# Mode.\nuint8 mode\n---\n# Age [s].\nfloat64 age\n", []),
    ],
)
def test_a_field_without_a_comment_is_found(text, fields):
    assert uncommented_fields(text) == fields


def test_interfaces_of_every_kind_are_looked_at():
    assert {path.parent.name for path in INTERFACES} == set(KINDS)
