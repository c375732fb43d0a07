# SPDX-License-Identifier: MIT
"""Streamed samples: every frame once, never across episodes, in an order that can be repeated."""

import numpy as np
import pytest

from vla_core.dataset import EpisodeDataset, FrameStream
from vla_core.errors import ConfigError


@pytest.fixture
def dataset(dataset_root):
    return EpisodeDataset(dataset_root)


def places(samples):
    return [(sample.episode, sample.frame) for sample in samples]


@pytest.mark.parametrize(("buffer_size", "open_episodes"), [(1, 1), (4, 2), (100, 3)])
def test_every_frame_comes_once_per_epoch(dataset, buffer_size, open_episodes):
    stream = FrameStream(
        dataset, chunk_size=4, buffer_size=buffer_size, open_episodes=open_episodes
    )
    found = places(stream.epoch(0))
    expected = [(e, f) for e, length in enumerate((5, 3, 7)) for f in range(length)]
    assert sorted(found) == expected
    assert found != expected


def test_sample_is_what_the_episode_holds(dataset, episodes):
    stream = FrameStream(dataset, chunk_size=4, history_length=2)
    for sample in stream.epoch(3):
        episode, frame = episodes[sample.episode], sample.frame
        np.testing.assert_array_equal(sample.images["front"], episode["images"]["front"][frame])
        np.testing.assert_array_equal(sample.state, episode["state"][frame])
        assert sample.task == episode["task"]
        rows = np.arange(frame, frame + 4)
        last = len(episode["actions"]) - 1
        np.testing.assert_array_equal(sample.action_is_pad, rows > last)
        np.testing.assert_array_equal(sample.actions, episode["actions"][np.minimum(rows, last)])
        earlier = np.arange(frame - 2, frame)
        np.testing.assert_array_equal(sample.history_is_pad, earlier < 0)
        for images, row in zip(sample.history_images, np.maximum(earlier, 0), strict=True):
            np.testing.assert_array_equal(images["wrist"], episode["images"]["wrist"][row])
        np.testing.assert_array_equal(
            sample.history_state, episode["state"][np.maximum(earlier, 0)]
        )


def test_order_depends_on_seed_and_epoch_alone(dataset):
    def order(seed, epoch):
        return places(FrameStream(dataset, chunk_size=2, buffer_size=6, seed=seed).epoch(epoch))

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_shards_share_the_episodes(dataset):
    found = [
        places(FrameStream(dataset, chunk_size=2, shard=(number, 2)).epoch(0))
        for number in range(2)
    ]
    assert not {e for e, _ in found[0]} & {e for e, _ in found[1]}
    assert len(found[0]) + len(found[1]) == dataset.num_frames


def test_frames_are_prepared_once_each(dataset):
    prepared = []
    stream = FrameStream(
        dataset,
        chunk_size=2,
        history_length=3,
        prepare=lambda frames: prepared.append(1) or frames["front"].mean(),
    )
    assert all(isinstance(sample.images, float) for sample in stream.epoch(0))
    assert len(prepared) == dataset.num_frames


@pytest.mark.parametrize(("cached_frames", "decoded_again"), [(0, 15), (15, 0)])
def test_cached_frames_are_not_decoded_again(dataset, cached_frames, decoded_again):
    prepared = []
    stream = FrameStream(
        dataset,
        chunk_size=2,
        open_episodes=1,
        cached_frames=cached_frames,
        prepare=lambda frames: prepared.append(1) or frames,
    )
    first = {(s.episode, s.frame): s.images["front"] for s in stream.epoch(0)}
    del prepared[:]
    next(stream.epoch(1))  # An epoch that is broken off costs nothing but its own frames.
    del prepared[:]
    for sample in stream.epoch(1):
        np.testing.assert_array_equal(sample.images["front"], first[sample.episode, sample.frame])
    assert len(prepared) == decoded_again


def test_chosen_episodes_alone_are_read(dataset):
    stream = FrameStream(dataset, chunk_size=2, episodes=[2])
    assert {episode for episode, _ in places(stream.epoch(0))} == {2}


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [({"buffer_size": 0}, "buffer_size must be at least 1"), ({"shard": (2, 2)}, "shard must be")],
)
def test_impossible_streams_are_refused(dataset, arguments, cause):
    with pytest.raises(ConfigError, match=cause):
        FrameStream(dataset, chunk_size=2, **arguments)
