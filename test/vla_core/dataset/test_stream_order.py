# SPDX-License-Identifier: MIT
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vla_core.dataset.stream_order import stream_order


@given(
    lengths=st.lists(st.integers(1, 20), max_size=8),
    buffer_size=st.integers(1, 30),
    open_episodes=st.integers(1, 4),
    seed=st.integers(0, 100),
)
def test_every_frame_comes_once_and_none_long_before_its_turn(
    lengths, buffer_size, open_episodes, seed
):
    order = stream_order(
        lengths,
        buffer_size=buffer_size,
        open_episodes=open_episodes,
        random=np.random.default_rng(seed),
    )
    everything = [(e, f) for e, length in enumerate(lengths) for f in range(length)]
    assert sorted(map(tuple, order.tolist())) == everything
    # What must have been read before a frame can be drawn: no more than the buffer beyond it.
    read = np.zeros(len(lengths), int)
    for number, (episode, frame) in enumerate(order.tolist()):
        read[episode] = max(read[episode], frame + 1)
        assert read.sum() <= number + 1 + buffer_size
