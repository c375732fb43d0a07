# SPDX-License-Identifier: MIT
"""One demonstration over real ROS 2 that the tests of this folder look at."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

EPISODES = 6


@dataclass(frozen=True)
class FinishedDemo:
    folder: Path
    status: int
    output: str


@pytest.fixture(scope="session")
def start_demo():
    """Start `vla demo` with arguments; it is killed if it is left running."""
    started = []

    def start(*arguments):
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "vla_core.cli", "demo", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "COLUMNS": "120"},
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def finished_demo(start_demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    process = start_demo("--episodes", str(EPISODES), "--output", str(folder))
    output, _ = process.communicate(timeout=300)
    return FinishedDemo(folder, process.returncode, output)
