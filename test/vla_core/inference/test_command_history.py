# SPDX-License-Identifier: MIT
import numpy as np
import pytest

from vla_core.inference.command_history import CommandHistory


@pytest.fixture
def history():
    """Commands 0.0, 1.0, 2.0 at 0, 10 and 20 ns."""
    history = CommandHistory(duration_s=1.0, dt_s=0.02)
    for number in range(3):
        history.append(10 * number, np.array([float(number)]))
    return history


@pytest.mark.parametrize(("stamp_ns", "command"), [(0, 0.0), (10, 1.0), (15, 1.5), (99, 2.0)])
def test_a_command_is_that_of_its_time(history, stamp_ns, command):
    assert history.at(stamp_ns) == pytest.approx(command)


def test_before_the_first_command_there_is_none(history):
    assert history.at(-1) is None
    history.clear()
    assert history.at(10) is None


def test_it_forgets_what_is_too_long_ago():
    history = CommandHistory(duration_s=0.1, dt_s=0.02)
    for tick in range(100):
        history.append(tick * 20_000_000, np.array([float(tick)]))
    assert history.at(0) is None
    assert history.at(99 * 20_000_000 - 100_000_000) == pytest.approx(94.0)


def test_the_largest_error_is_that_of_the_joint_farthest_from_its_command():
    history = CommandHistory(duration_s=1.0, dt_s=0.02)
    assert history.largest_error(np.array([1.0, 2.0]), 10) == (0, 0.0)
    history.append(0, np.array([0.0, 0.0]))
    history.append(10, np.array([1.0, -1.0]))
    assert history.largest_error(np.array([0.6, -1.0]), 5) == (1, 0.5)
