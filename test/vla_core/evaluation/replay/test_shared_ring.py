# SPDX-License-Identifier: MIT
"""Whatever is sent through shared memory arrives, however small the memory is."""

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vla_core.evaluation.replay.shared_ring import SharedRing

SIZES = st.lists(st.lists(st.integers(0, 300), max_size=3), max_size=12)


@given(sizes=SIZES, patience=st.integers(0, 6))
def test_arrays_arrive_in_order_and_none_is_overwritten_before_it_is_read(sizes, patience):
    memory = bytearray(1024)
    sender, receiver = SharedRing(memory), SharedRing(memory)
    travelling = deque()
    random = np.random.default_rng(0)

    def receive():
        parcel, expected = travelling.popleft()
        arrived = receiver.open(parcel)
        assert arrived.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(arrived[name], array)
        sender.give_back()

    for lengths in sizes:
        thing = {n: random.integers(0, 256, size, np.uint8) for n, size in enumerate(lengths)}
        travelling.append((sender.pack(thing, receive), thing))
        while len(travelling) > patience:
            receive()
    while travelling:
        receive()


def test_what_is_larger_than_the_memory_travels_alone():
    memory = bytearray(256)
    sender, receiver = SharedRing(memory), SharedRing(memory)
    small = sender.pack(np.ones(100, np.uint8), lambda: None)
    large = sender.pack(np.arange(1000), sender.give_back)
    assert [len(small.spans), len(large.spans)] == [1, 0]
    np.testing.assert_array_equal(receiver.open(large), np.arange(1000))
