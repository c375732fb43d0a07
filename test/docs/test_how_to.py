# SPDX-License-Identifier: MIT
"""What the pages tell a reader to open, type and write exists."""

import re
from pathlib import Path

import pytest
import yaml

from vla_core.cli import find_commands
from vla_core.processing.contract import RobotContract, available_contracts, load_contract

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOW_TO = [page for page in PAGES if page.parent.name == "how-to"]


def name(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def merged(base, change):
    """Return nested plain values with those of another put over them."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    return {**base, **{key: merged(base.get(key), value) for key, value in change.items()}}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_links_to_is_there(page):
    code = r"^(`{3,})[^\n]*\n.*?^\1$|`[^`]*`"
    prose = re.sub(code, "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_index_links_to_every_page():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs") for page in PAGES if (ROOT / "docs") in page.parents]
    for page in pages:
        covered = page.parent == Path("frameworks") or page == Path("README.md")
        assert covered or f"({page})" in index, page


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_commands_of_a_page_exist(page):
    typed = re.findall(r"^vla ([\w-]+)", "\n".join(blocks(page, "bash")), re.MULTILINE)
    assert [command for command in typed if command not in find_commands()] == []


@pytest.mark.parametrize("page", HOW_TO, ids=name)
def test_the_robots_of_a_page_have_contracts(page):
    text = page.read_text(encoding="utf-8")
    robots = re.findall(r"(?:robot:=|contract:=|--robot |contract check )(\w+)", text)
    assert [robot for robot in robots if robot not in available_contracts()] == []


@pytest.mark.parametrize("page", HOW_TO, ids=name)
def test_the_parts_of_contracts_on_a_page_are_valid(page):
    for block in blocks(page, "yaml"):
        robot = block.partition("\n")[0].removeprefix("# ")
        if robot == "controllers":
            continue
        data = merged(load_contract(robot).to_dict(), yaml.safe_load(block))
        contract = RobotContract.from_dict(data)
        assert contract != load_contract(robot)


def test_there_is_a_page_for_every_real_robot():
    text = "\n".join(page.read_text(encoding="utf-8") for page in HOW_TO)
    titles = {
        "ur5e": "UR5e", "franka_fr3": "Franka Research 3", "vx300s": "ViperX 300 S",
        "aloha": "ALOHA", "so101": "SO-101", "xarm6": "xArm6",
    }  # fmt: skip
    assert set(titles) == set(available_contracts()) - {"sim", "sim_200hz", "sim_bimanual"}
    for robot, title in titles.items():
        assert re.search(rf"^#+ .*{re.escape(title)}", text, re.MULTILINE), robot
        comment = available_contracts()[robot].read_text(encoding="utf-8")
        (page,) = set(re.findall(r"docs/how-to/\w+\.md", comment))
        assert title in (ROOT / page).read_text(encoding="utf-8")
