# SPDX-License-Identifier: MIT
"""The executables of the nodes end quietly by a Ctrl-C that comes while they import."""

import subprocess
import sys
from importlib.metadata import distribution

import pytest

SCRIPT = """
import os, signal, sys
from importlib.metadata import distribution

class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == "rclpy":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interruption())
points = distribution("vla_ros").entry_points
(executable,) = points.select(group="console_scripts", name=sys.argv[1])
sys.exit(executable.load()())
"""
NAMES = distribution("vla_ros").entry_points.select(group="console_scripts").names


@pytest.mark.parametrize("name", sorted(NAMES))
def test_ctrl_c_in_the_imports_of_a_node_ends_it_quietly(name):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
