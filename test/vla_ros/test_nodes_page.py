# SPDX-License-Identifier: MIT
"""The page of the nodes says of every parameter when it may be set, and names every interface."""

import dataclasses
import re
from pathlib import Path

import pytest

from vla_ros import parameters

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/vla_ros/vla_ros"
ROWS = {
    "always": "at any time",
    "unconfigured": "while not configured",
    "never": "at the start alone",
}
pytestmark = pytest.mark.ros

NODE_PARAMETERS = [vars(parameters)[name] for name in parameters.__all__]


def section(node):
    page = (ROOT / "docs/nodes.md").read_text(encoding="utf-8")
    return page.split(f"\n## {node}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("cls", NODE_PARAMETERS, ids=lambda cls: cls.NODE)
def test_every_parameter_is_listed_where_it_may_be_set(cls):
    rows = dict(re.findall(r"^\| ([\w ]+) \| (`.*) \|$", section(cls.NODE), re.MULTILINE))
    listed = {changes: re.findall(r"`(\w+)`", rows.get(row, "")) for changes, row in ROWS.items()}
    declared = {changes: [] for changes in ROWS}
    for field in dataclasses.fields(cls):
        declared[field.metadata["changes"]].append(field.name)
    assert {k: sorted(v) for k, v in listed.items()} == {k: sorted(v) for k, v in declared.items()}


def test_every_own_name_of_the_code_is_on_the_page():
    """Names in ``~/`` are those of the topics, services and actions of a node."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    own = set(re.findall(r'"(~/\w+)"', code))
    page = (ROOT / "docs/nodes.md").read_text(encoding="utf-8")
    assert len(own) > 10
    assert sorted(name for name in own if f"`{name}`" not in page) == []
