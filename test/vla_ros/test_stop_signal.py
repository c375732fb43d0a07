# SPDX-License-Identifier: MIT
"""SIGINT and SIGTERM end a node between two turns, and nothing of it outlives that."""

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


FROZEN_NODE = """
import gc
from pathlib import Path
from rclpy.lifecycle import LifecycleNode
from vla_ros.stop_signal import StopSignal

def num_sockets():
    links = [link.readlink().name for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    udp = [line.split()[9] for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(f"socket:[{inode}]" in links for inode in udp)

def live():
    with StopSignal([]):
        node = LifecycleNode("node")
        gc.collect()
        gc.freeze()
        assert num_sockets() > 0
        node.destroy_node()

live()
gc.collect()  # as the interpreter does at its end
print(num_sockets())
"""


def test_the_middleware_of_a_node_that_froze_its_objects_ends_before_the_process():
    """Its threads would crash the end of the process if they were still there."""
    result = subprocess.run(
        [sys.executable, "-c", FROZEN_NODE], capture_output=True, text=True, check=True
    )
    assert result.stdout == "0\n"
