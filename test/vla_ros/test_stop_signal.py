# SPDX-License-Identifier: MIT
"""SIGINT and SIGTERM end a node between two turns, and a second one does no harm."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ros

NODE = """
import time
from vla_ros.stop_signal import StopSignal
with StopSignal([]) as stop:
    print("up", flush=True)
    while not stop.is_set:
        time.sleep(0.01)
print("closed", flush=True)
input()
"""


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_while_a_node_ends_is_no_failure(first):
    process = subprocess.Popen(
        [sys.executable, "-c", NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    process.send_signal(first)
    assert process.stdout.readline() == "closed\n"
    process.send_signal(signal.SIGINT)
    process.communicate("\n")
    assert process.returncode == 0
