# SPDX-License-Identifier: MIT
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parent / "conftest.py"


@pytest.fixture
def run_skipping(tmp_path):
    """Run pytest on one test that passes and one that skips for the given reason."""

    def run(statement, *arguments):
        shutil.copy(CONFTEST, tmp_path / "conftest.py")
        (tmp_path / "test_sample.py").write_text(
            f"import pytest\n\ndef test_skipped():\n    {statement}\n\n"
            "def test_passed():\n    pass\n"
        )
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    return run


def test_unknown_reason_fails_the_run_and_is_listed(run_skipping):
    result = run_skipping("pytest.skip('felt like it')", "--strict-skips")
    assert result.returncode == 1
    assert "test_sample.py::test_skipped: felt like it" in result.stdout
    assert "1 passed, 1 skipped" in result.stdout.splitlines()[-1]


def test_reason_in_the_list_is_allowed(run_skipping):
    result = run_skipping("pytest.skip('no CUDA device')", "--strict-skips")
    assert result.returncode == 0, result.stdout
    assert "1 passed, 1 skipped" in result.stdout.splitlines()[-1]


def test_without_the_option_skipping_is_free(run_skipping):
    assert run_skipping("pytest.skip('felt like it')").returncode == 0
