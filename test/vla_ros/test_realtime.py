# SPDX-License-Identifier: MIT
import os
import subprocess
import sys

import pytest

from vla_ros.realtime import priority_of

_RAISE = """
import rclpy
from vla_ros.realtime import raise_priority
rclpy.init()
raise_priority(rclpy.create_node("paced"), 3)
print("raised", flush=True)
input()
"""


@pytest.mark.ros
def test_priority_is_raised_where_it_is_permitted_and_else_the_log_says_so(ros_domain):
    with subprocess.Popen(
        [sys.executable, "-c", _RAISE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "raised\n":
                break
        priority = priority_of(process.pid)
        process.communicate("\n")
    assert (priority, len(lines)) in ((3, 1), (0, 2)), lines
    assert priority == 3 or "real-time priority 3 is not permitted" in lines[0]


def test_ordinary_process_has_no_real_time_priority():
    with subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)),
    ) as process:
        priority = priority_of(process.pid)
        process.communicate(b"\n")
    assert priority == 0
