# SPDX-License-Identifier: MIT
"""The page of faults and the tests of faults are one list."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_fault_of_the_page_has_its_test_and_every_test_its_fault():
    page = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    tests = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "test/integration/faults").glob("test_*.py")
    )
    listed = re.findall(r"\| `(test_\w+)` \|$", page, re.MULTILINE)
    written = re.findall(r"^def (test_\w+)", tests, re.MULTILINE)
    assert sorted(listed) == sorted(written)
    assert len(set(listed)) == len(listed)
