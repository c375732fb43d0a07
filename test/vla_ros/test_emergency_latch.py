# SPDX-License-Identifier: MIT
"""A file keeps an emergency stop for the process that is started instead of a killed one."""

import os
import tempfile
import time

import pytest

from vla_ros.emergency_latch import EmergencyLatch

NODE = "/left/command_node"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where the files of these tests are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    return tmp_path


def test_without_a_stop_there_is_no_reason_and_no_file(folder):
    EmergencyLatch(NODE).keep("")
    assert EmergencyLatch(NODE).find_reason() == ""
    assert list(folder.iterdir()) == []


def test_the_next_process_finds_why_and_since_when(folder):
    EmergencyLatch(NODE).keep("topic /estop")
    (path,) = folder.iterdir()
    os.utime(path, (0, 0))
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(0))
    assert EmergencyLatch(NODE).find_reason() == f"topic /estop, since {since}"


def test_after_a_reset_nothing_is_left(folder):
    EmergencyLatch(NODE).keep("topic /estop")
    EmergencyLatch(NODE).keep("")
    assert EmergencyLatch(NODE).find_reason() == ""
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("other", ["node", "domain", "parent"])
def test_a_stop_of_somebody_else_does_not_count(other, monkeypatch):
    EmergencyLatch(NODE).keep("topic /estop")
    if other == "domain":
        monkeypatch.setenv("ROS_DOMAIN_ID", "8")
    if other == "parent":
        monkeypatch.setattr(os, "getppid", lambda: 1)
    name = "/right/command_node" if other == "node" else NODE
    assert EmergencyLatch(name).find_reason() == ""


@pytest.mark.parametrize("content", [b"", b"\xff"])
def test_a_file_that_was_not_finished_counts(folder, content):
    EmergencyLatch(NODE).keep("topic /estop")
    (path,) = folder.iterdir()
    path.write_bytes(content)
    assert "unknown reason, since" in EmergencyLatch(NODE).find_reason()


def test_no_link_is_followed(folder):
    EmergencyLatch(NODE).keep("topic /estop")
    (path,) = folder.iterdir()
    path.unlink()
    target = folder / "precious"
    target.write_text("data")
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        EmergencyLatch(NODE).keep("topic /estop")
    assert target.read_text() == "data"
