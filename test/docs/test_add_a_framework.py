# SPDX-License-Identifier: MIT
"""The page 'add a framework in one file', followed to the letter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/add_a_framework.md").read_text(encoding="utf-8")
CONTRACT = ROOT / "test/vla_core/models/frameworks/test_contract.py"
FRAMEWORK, BUILDER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def followed(tmp_path):
    """Write the framework's file and the contract with its builder, and return their folder."""
    (tmp_path / "plain.py").write_text(FRAMEWORK, encoding="utf-8")
    contract = CONTRACT.read_text(encoding="utf-8")
    assert contract.count("BUILDERS = {\n") == 1
    named = f'{BUILDER}\n\nBUILDERS = {{\n    "plain": build_plain,\n'
    contract = contract.replace("BUILDERS = {\n", named)
    contract = contract.replace(
        "import pytest\n", "import pytest\nfrom plain import PlainVLA\n", 1
    )
    (tmp_path / "test_contract.py").write_text(contract, encoding="utf-8")
    return tmp_path


def run_python(folder, *arguments):
    paths = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_file_on_the_page_keeps_the_contract(followed):
    result = run_python(
        followed,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml"),
        *("--rootdir", followed, "-k", "plain or under_contract", followed / "test_contract.py"),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None
    assert int(passed[1]) > 20


@pytest.mark.parametrize("command", [("check",), ("format", "--check", "--diff")])
def test_the_file_on_the_page_is_written_as_the_library_is(command):
    place = "src/vla_core/vla_core/models/frameworks/plain.py"
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--stdin-filename", place, "-"],
        cwd=ROOT,
        input=FRAMEWORK,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_framework_on_the_page_is_in_the_table(followed):
    code = (
        "import plain, argparse\n"
        "from vla_core.commands import frameworks\n"
        "parser = argparse.ArgumentParser()\n"
        "frameworks.add_arguments(parser)\n"
        "frameworks.run(parser.parse_args(['plain', '--runs', '1']))\n"
    )
    result = run_python(followed, "-c", code)
    assert result.returncode == 0, result.stderr
    assert "plain" in result.stdout
