# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.training.batches import BatchSampler


def test_epoch_shows_every_frame_once():
    frames = torch.arange(100, 112)
    sampler = BatchSampler(frames, batch_size=4, seed=0)
    drawn = torch.cat([sampler.next_batch() for _ in range(3)])
    assert sorted(drawn.tolist()) == frames.tolist()


def test_epochs_have_different_orders():
    sampler = BatchSampler(torch.arange(32), batch_size=32, seed=0)
    assert sampler.next_batch().tolist() != sampler.next_batch().tolist()


def test_restored_sampler_draws_the_same_batches():
    sampler = BatchSampler(torch.arange(10), batch_size=3, seed=5)
    for _ in range(4):
        sampler.next_batch()
    other = BatchSampler(torch.arange(10), batch_size=3, seed=5)
    other.load_state_dict(sampler.state_dict())
    for _ in range(6):
        assert other.next_batch().tolist() == sampler.next_batch().tolist()


def test_too_few_frames_are_refused():
    with pytest.raises(ConfigError, match="batch_size is 8, but the dataset has only 5"):
        BatchSampler(torch.arange(5), batch_size=8, seed=0)
