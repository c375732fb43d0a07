# SPDX-License-Identifier: MIT
import numpy as np
import pytest

from vla_core.dataset import EpisodeDataset
from vla_core.dataset.frame_store import FrameStore


@pytest.fixture
def decoded():
    """What was decoded, in order."""
    return []


@pytest.fixture
def make_store(dataset_root, decoded):
    """Return a function that makes a store which keeps the mean of a frame."""

    def prepare(frames):
        decoded.append(float(frames["front"].mean()))
        return decoded[-1]

    def make(**arguments):
        return FrameStore(EpisodeDataset(dataset_root), prepare, **arguments)

    return make


def means(episode):
    return episode["images"]["front"].mean(axis=(1, 2, 3)).tolist()


def test_frames_in_any_order_are_decoded_once_and_forgotten_when_used(
    make_store, decoded, episodes
):
    store, expected = make_store(history_length=2), means(episodes[2])
    for frame in (3, 1, 0, 6, 2, 5, 4):
        window = store.window(2, frame)
        assert window == [expected[max(n, 0)] for n in range(frame - 2, frame + 1)]
    assert len(decoded) == 7
    assert store.num_kept == 0


def test_frame_that_was_used_is_decoded_again(make_store, decoded, episodes):
    store, expected = make_store(), means(episodes[0])
    assert [store.window(0, frame) for frame in (1, 1)] == [[expected[1]]] * 2
    assert len(decoded) == 4


def test_episodes_for_which_there_is_room_are_decoded_once(make_store, decoded, episodes):
    store = make_store(history_length=1, cached_frames=8)
    for _ in range(2):
        for episode in (2, 0, 1):  # 7 frames fit; of the 5 and 3 of the others no whole episode.
            expected = means(episodes[episode])
            for frame in range(len(expected)):
                assert store.window(episode, frame) == [
                    expected[max(frame - 1, 0)],
                    expected[frame],
                ]
    assert len(decoded) == 7 + 2 * (5 + 3)
    assert store.num_kept == 7


def test_rest_of_a_pass_can_be_given_up(make_store, decoded, episodes):
    store = make_store(cached_frames=3)
    store.window(0, 4)
    store.window(1, 2)
    assert store.num_kept == 4 + 3
    store.forget()
    assert store.num_kept == 3
    assert store.window(1, 0) == [means(episodes[1])[0]]
    assert len(decoded) == 5 + 3


def test_frames_that_are_passed_over_can_be_forgotten(make_store, decoded, episodes):
    store, expected = make_store(history_length=1, keeps_skipped=False), means(episodes[2])
    assert [store.window(2, frame) for frame in (0, 3, 4)] == [
        [expected[0], expected[0]],
        expected[2:4],
        expected[3:5],
    ]
    np.testing.assert_array_equal(decoded, [expected[n] for n in (0, 2, 3, 4)])
    assert store.num_kept <= 2
