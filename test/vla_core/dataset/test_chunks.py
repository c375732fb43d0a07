# SPDX-License-Identifier: MIT
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.dataset import action_chunks, history_windows
from vla_core.errors import ConfigError

_LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def test_window_past_the_end_repeats_the_last_action_as_padding():
    chunks = action_chunks([3, 2], chunk_size=3)
    np.testing.assert_array_equal(chunks.index[1], [1, 2, 2])
    np.testing.assert_array_equal(chunks.is_pad[1], [False, False, True])


@given(lengths=_LENGTHS, chunk_size=st.integers(1, 20))
def test_window_never_leaves_its_episode(lengths, chunk_size):
    episode = np.repeat(np.arange(len(lengths)), lengths)
    chunks = action_chunks(lengths, chunk_size)
    np.testing.assert_array_equal(
        episode[chunks.index], np.broadcast_to(episode[:, None], chunks.index.shape)
    )


@given(lengths=_LENGTHS, chunk_size=st.integers(1, 20))
def test_window_begins_at_its_frame_and_counts_every_remaining_action(lengths, chunk_size):
    chunks = action_chunks(lengths, chunk_size)
    remaining = np.concatenate([np.arange(length, 0, -1) for length in lengths])
    np.testing.assert_array_equal(chunks.index[:, 0], np.arange(sum(lengths)))
    np.testing.assert_array_equal((~chunks.is_pad).sum(axis=1), np.minimum(remaining, chunk_size))


def test_empty_window_is_refused():
    with pytest.raises(ConfigError, match="chunk_size must be at least 1, got 0"):
        action_chunks([3], chunk_size=0)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 4))
def test_history_never_crosses_the_beginning_of_an_episode(lengths, history_length):
    windows = history_windows(lengths, history_length)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    frame = np.concatenate([np.arange(length) for length in lengths])
    assert windows.index.shape == (sum(lengths), history_length)
    assert (episode[windows.index] == episode[:, None]).all()
    earlier = frame[:, None] + np.arange(-history_length, 0)
    np.testing.assert_array_equal(windows.is_pad, earlier < 0)
    np.testing.assert_array_equal(frame[windows.index], np.maximum(earlier, 0))
