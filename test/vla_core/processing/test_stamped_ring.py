# SPDX-License-Identifier: MIT
from hypothesis import given
from hypothesis import strategies as st

from vla_core.processing.stamped_ring import StampedRing

SPAN_S = 1e-6
SPAN_NS = 1000
# Within one span, so that nothing is forgotten.
STAMPS = st.lists(st.integers(10_000, 10_000 + SPAN_NS), min_size=1, max_size=30)
TIMES = st.integers(9_000, 12_000)


def ring_of(stamps, capacity=100):
    ring = StampedRing(SPAN_S, capacity)
    for number, stamp in enumerate(stamps):
        ring.add(stamp, number)
    return ring


@given(STAMPS, TIMES)
def test_items_are_found_on_both_sides_of_a_time_whatever_order_they_came_in(stamps, time_ns):
    ring = ring_of(stamps)
    assert [at for at, _ in ring.until(time_ns)] == sorted(
        (s for s in stamps if s <= time_ns), reverse=True
    )
    assert [at for at, _ in ring.since(time_ns)] == sorted(s for s in stamps if s >= time_ns)
    assert all(stamps[number] == at for at, number in ring.newest_first())


@given(STAMPS, TIMES, st.integers(9_000, 11_500))
def test_nearest_is_nearer_than_all_others_that_count(stamps, time_ns, oldest_ns):
    found = ring_of(stamps).nearest(time_ns, oldest_ns)
    distances = [abs(stamp - time_ns) for stamp in stamps if stamp >= oldest_ns]
    assert (found is None) == (not distances)
    if found is not None:
        assert abs(found[0] - time_ns) == min(distances)
        assert found[0] >= oldest_ns


@given(st.lists(st.integers(10_000, 10_000 + 20 * SPAN_NS), min_size=1))
def test_nothing_older_than_the_newest_by_more_than_the_span_is_kept(stamps):
    ring = ring_of(sorted(stamps))
    assert [at for at, _ in ring.since(0)] == sorted(
        stamp for stamp in stamps if stamp >= max(stamps) - SPAN_NS
    )


def test_items_of_one_stamp_are_all_kept():
    assert [item for _, item in ring_of([10_000, 10_000]).newest_first()] == [1, 0]


def test_capacity_bounds_a_sender_whose_stamp_stands_still():
    ring = ring_of([10_000] * 50, capacity=7)
    assert [item for _, item in ring.newest_first()] == list(range(49, 42, -1))


def test_stamp_that_jumps_back_starts_anew():
    ring = ring_of([10_000, 10_500, 5_000])
    assert ring.newest_ns == 5_000
    assert len(ring) == 1


def test_empty_ring_has_no_nearest():
    ring = ring_of([])
    assert ring.newest_ns is None
    assert ring.nearest(0) is None
