# SPDX-License-Identifier: MIT
"""The ticks of a loop on wall time and on a simulated time that runs as it likes."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.tick_rate import TickRate

PERIOD_S = 0.02
MS = 1_000_000


class ScriptedClock:
    """A simulated clock that shows one time after the other, and stops at the last."""

    is_simulated = True

    def __init__(self, times_ms):
        self._times = list(times_ms)

    def now_ns(self):
        now_ms = self._times.pop(0) if len(self._times) > 1 else self._times[0]
        return round(now_ms * MS)

    @property
    def has_more(self):
        return len(self._times) > 1


class WallClock:
    is_simulated = False

    def now_ns(self):
        return time.time_ns()


def ticks_of(times_ms):
    """Return (time in ms, elapsed periods, jumped back) of every tick."""
    clock = ScriptedClock(times_ms)
    rate = TickRate(clock, PERIOD_S)
    ticks = []
    while clock.has_more and rate.wait():
        ticks.append((rate.now_ns / MS, rate.num_elapsed, rate.has_jumped_back))
    return ticks


def test_ticks_come_once_per_period_of_simulated_time():
    times = range(1000, 1101, 5)
    assert [at for at, _, _ in ticks_of(times)] == [1000, 1020, 1040, 1060, 1080, 1100]


@given(st.lists(st.integers(1, 90), min_size=3, max_size=40))
def test_ticks_stay_on_their_grid_and_count_what_was_skipped(steps):
    times = [1000]
    for step in steps:
        times.append(times[-1] + step)
    ticks = ticks_of(times)
    assert sum(elapsed for _, elapsed, _ in ticks[1:]) == (ticks[-1][0] - 1000) // 20
    assert all((at - 1000) % 20 == 0 and elapsed >= 1 for at, elapsed, _ in ticks)


def test_lateness_is_counted_from_the_grid():
    clock = ScriptedClock([1000, 1027])
    rate = TickRate(clock, PERIOD_S)
    assert rate.wait()
    assert rate.wait()
    assert (rate.now_ns, rate.lateness_s) == (1020 * MS, pytest.approx(0.007))


def test_no_tick_comes_while_simulated_time_stands_still():
    rate = TickRate(ScriptedClock([1000]), PERIOD_S)
    assert rate.wait()
    assert not rate.wait()
    assert rate.now_ns == 1000 * MS


def test_no_tick_comes_before_the_first_message_of_the_clock():
    assert not TickRate(ScriptedClock([0]), PERIOD_S).wait()


def test_clock_that_is_set_back_starts_the_grid_anew():
    assert ticks_of([1000, 1020, 307, 315, 327, 350, 360]) == [
        (1000, 1, False),
        (1020, 1, False),
        (307, 1, True),
        (327, 1, False),
        (347, 1, False),
    ]


def test_wall_time_goes_on_by_itself():
    rate = TickRate(WallClock(), PERIOD_S)
    start_ns = time.time_ns()
    for _ in range(3):
        assert rate.wait()
        assert rate.num_elapsed >= 1
    assert rate.now_ns >= start_ns
    assert rate.lateness_s >= 0.0


def test_period_must_be_positive():
    with pytest.raises(ValueError, match="greater than 0"):
        TickRate(WallClock(), 0.0)
