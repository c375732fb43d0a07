# SPDX-License-Identifier: MIT
import pytest

from vla_ros.log_budget import LogBudget

pytestmark = pytest.mark.ros


def test_log_takes_a_burst_and_then_a_line_per_period(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr("vla_ros.log_budget.time.monotonic", lambda: now_s)
    budget = LogBudget(burst=2, period_s=5.0)
    assert [budget.take() for _ in range(4)] == [True, True, False, False]
    now_s += 4.9
    assert not budget.take()
    now_s += 0.2
    assert [budget.take() for _ in range(2)] == [True, False]
    now_s += 1000.0
    assert [budget.take() for _ in range(3)] == [True, True, False]
