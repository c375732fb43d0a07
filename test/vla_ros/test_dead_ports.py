# SPDX-License-Identifier: MIT
"""A process that follows a killed one is not deaf to those who have sent to that one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vla_ros.dead_ports import remove_dead_ports
from vla_ros.private_domain import private_domain

pytestmark = pytest.mark.ros

PROGRAM = """
import rclpy
from vla_ros.stop_signal import StopSignal
with StopSignal([]):
    node = rclpy.create_node("receiver")
    print("ready", flush=True)
    input()
"""


def ports(domain):
    """Return the numbers of the domain's ports that have or had a reader of their own."""
    numbers = {int(re.search(r"\d+", p.name)[0]) for p in Path("/dev/shm").glob("*_port*_el")}
    return numbers & set(range(7400 + 250 * domain, 7400 + 250 * (domain + 1)))


@pytest.fixture
def start_receiver(ros_domain):
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_ports_of_a_killed_process_are_not_taken_again_and_are_removed_at_last(
    start_receiver, ros_domain
):
    killed = start_receiver()
    dead = ports(ros_domain)
    assert dead
    killed.kill()
    killed.wait()
    receiver = start_receiver()
    assert ports(ros_domain) > dead
    assert not remove_dead_ports(ros_domain)
    assert ports(ros_domain) > dead, "they stay while somebody is there"
    receiver.communicate("\n")
    assert receiver.returncode == 0
    assert remove_dead_ports(ros_domain)
    assert not ports(ros_domain)


def test_a_domain_is_nobodys_while_a_participant_is_in_it(ros_domain):
    import rclpy

    context = rclpy.Context()
    with private_domain() as domain:
        rclpy.init(args=[], context=context, domain_id=domain)
        staying = rclpy.create_node("staying", context=context)
    with private_domain() as other:
        assert other not in (domain, ros_domain)
    staying.destroy_node()
    context.try_shutdown()
