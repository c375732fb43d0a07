# SPDX-License-Identifier: MIT
"""The page 'add a framework in one file', followed to the letter."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/add_a_framework.md").read_text(encoding="utf-8")
COPIED = ("src/vla_core", "test/conftest.py", "test/docs", "test/vla_core", "docs", "config")

FENCED = r"\n\n(?P<fence>```+)\w+\n(?P<block>.*?)(?P=fence)\n"
STEP = re.compile(
    r"(?:New\sfile\s`(?P<new>[^`]+)`"
    r"|In\s`(?P<old>[^`]+)`,\s(?P<side>after|before)\s`(?P<line>[^`]+)`):" + FENCED,
    re.DOTALL,
)


def follow(step, tree):
    """Do in a copy of the project what one step of the page says."""
    if step["new"]:
        path = tree / step["new"]
        assert not path.exists()
        path.write_text(step["block"], encoding="utf-8")
        return
    path = tree / step["old"]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert lines.count(step["line"] + "\n") == 1, step["line"]
    place = lines.index(step["line"] + "\n") + (step["side"] == "after")
    lines.insert(place, step["block"])
    path.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Return a copy of the project in which the page was followed."""
    tree = tmp_path_factory.mktemp("project")
    for name in COPIED:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, tree / name)
    shutil.copy(ROOT / "pyproject.toml", tree)
    steps = list(STEP.finditer(PAGE))
    # Every block but the command is a step.
    assert len(steps) == len(re.findall(r"^```+\w+$", PAGE, re.MULTILINE)) - 3
    for step in steps:
        follow(step, tree)
    assert "make format\n" in PAGE
    for command in (("check", "--fix", "-q"), ("format", "-q")):
        result = run_python(tree, "-m", "ruff", *command, ".")
        assert result.returncode == 0, result.stdout + result.stderr
    return tree


def run_python(tree, *arguments):
    packages = [str(tree / "src/vla_core"), os.environ.get("PYTHONPATH")]
    paths = os.pathsep.join(filter(None, packages))
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_the_command_on_the_page_passes(tree):
    (arguments,) = re.findall(r"make test PYTEST_ARGS='(.*)'", PAGE)
    options = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    result = run_python(tree, *options, *shlex.split(arguments))
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None
    assert int(passed[1]) > 35


def test_the_other_frameworks_stay_as_they_are(tree):
    place = "test/vla_core/seed_snippets/test_common_interface.py"
    selection = ("-k", "each_is_run_here", place)
    result = run_python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selection)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("command", [("check",), ("format", "--check", "--diff")])
def test_the_file_on_the_page_is_written_as_the_library_is(command):
    place, text = re.search(
        r"New file `(.*plain\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL
    ).groups()
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--stdin-filename", place, "-"],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_framework_on_the_page_is_in_the_table(tree):
    code = "import sys; from vla_core.cli import main; sys.exit(main(sys.argv[1:]))"
    result = run_python(tree, "-c", code, "frameworks", "plain", "--runs", "1")
    assert result.returncode == 0, result.stderr
    assert "plain" in result.stdout
