# SPDX-License-Identifier: MIT
"""A node that keeps ending is given up; one that has worked for a while begins anew."""

import pytest

from vla_ros.restarts import Restarts


@pytest.fixture
def clock(monkeypatch):
    """`clock[0]` is the time that restarts go by, s."""
    now = [0.0]
    monkeypatch.setattr("vla_ros.restarts.time.monotonic", lambda: now[0])
    return now


def run_for(seconds, restarts, clock):
    restarts.note_start()
    clock[0] += seconds
    return restarts.find_delay_s()


def test_a_node_that_ends_at_once_is_started_ever_later_and_then_given_up(clock):
    restarts = Restarts()
    delays_s = [run_for(0.1, restarts, clock) for _ in range(6)]
    assert delays_s[:5] == sorted(set(delays_s[:5]))
    assert delays_s[5] is None


def test_a_node_that_has_worked_for_a_while_has_all_its_starts_again(clock):
    restarts = Restarts()
    before = [run_for(0.1, restarts, clock) for _ in range(5)]
    after = [run_for(seconds, restarts, clock) for seconds in (60.0, *[0.1] * 4)]
    assert after == before
    assert run_for(0.1, restarts, clock) is None
