# SPDX-License-Identifier: MIT
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.errors import MessageError
from vla_core.processing.input_history import InputHistory

MS = 1_000_000
HOLE_S = 0.1


def header(at_ms):
    return SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=at_ms * MS))


def xyz(*values):
    return SimpleNamespace(**dict(zip("xyzw", values, strict=False)))


def wrench(at_ms, force, torque):
    body = SimpleNamespace(force=xyz(*force), torque=xyz(*torque))
    return SimpleNamespace(header=header(at_ms), wrench=body)


def pose(at_ms, position, orientation):
    body = SimpleNamespace(position=xyz(*position), orientation=xyz(*orientation))
    return SimpleNamespace(header=header(at_ms), pose=body)


def history_of(kind, *messages):
    history = InputHistory(kind)
    for message in messages:
        history.add(message, received_ns=0)
    return history


def test_wrench_is_interpolated_component_by_component():
    history = history_of(
        "wrench",
        wrench(10, (0, 1, 2), (3, 4, 5)),
        wrench(20, (10, 11, 12), (13, 14, 15)),
    )
    values, stamp = history.at(12 * MS, HOLE_S)
    np.testing.assert_allclose(values, [2, 3, 4, 5, 6, 7])
    assert stamp == 12 * MS


def test_orientation_takes_the_short_way_and_keeps_its_length():
    quarter = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))
    same_as_none = (0.0, 0.0, 0.0, -1.0)
    history = history_of("pose", pose(10, (0, 0, 0), same_as_none), pose(20, (1, 0, 0), quarter))
    values, _ = history.at(15 * MS, HOLE_S)
    eighth = np.array([0.0, 0.0, np.sin(np.pi / 8), np.cos(np.pi / 8)])
    np.testing.assert_allclose(values[:3], [0.5, 0.0, 0.0])
    assert abs(values[3:] @ eighth) == pytest.approx(1.0)


QUATERNIONS = st.tuples(*[st.floats(-1.0, 1.0)] * 4).filter(lambda q: np.linalg.norm(q) > 0.6)


@given(QUATERNIONS, QUATERNIONS, st.integers(10, 20))
def test_orientation_is_a_rotation_at_every_time(first, second, at_ms):
    history = history_of("pose", pose(10, (0, 0, 0), first), pose(20, (0, 0, 0), second))
    values, _ = history.at(at_ms * MS, HOLE_S)
    assert np.linalg.norm(values[3:]) == pytest.approx(1.0)


def test_number_without_a_stamp_has_the_time_of_its_arrival():
    history = InputHistory("float64")
    history.add(SimpleNamespace(data=1.0), received_ns=10 * MS)
    history.add(SimpleNamespace(data=2.0), received_ns=20 * MS)
    values, stamp = history.at(15 * MS, HOLE_S)
    assert (values.tolist(), stamp) == ([1.5], 15 * MS)


@pytest.mark.parametrize(("at_ms", "used_ms"), [(5, 10), (300, 400), (500, 400)])
def test_nearest_counts_outside_the_measurements_and_in_holes(at_ms, used_ms):
    history = history_of("wrench", *(wrench(ms, (ms, 0, 0), (0, 0, 0)) for ms in (10, 400)))
    values, stamp = history.at(at_ms * MS, HOLE_S)
    assert (values[0], stamp) == (used_ms, used_ms * MS)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (history_of("wrench"), "no wrench was received"),
        (
            history_of("wrench", wrench(10, (0, float("nan"), 0), (0, 0, 0))),
            r"wrench must be finite, got force\.y = nan",
        ),
        (history_of("pose", pose(10, (0, 0, 0), (0, 0, 0, 0))), "of length 0; nobody has set it"),
    ],
)
def test_what_cannot_be_used_is_refused(history, expected):
    with pytest.raises(MessageError, match=expected):
        history.at(10 * MS, HOLE_S)
