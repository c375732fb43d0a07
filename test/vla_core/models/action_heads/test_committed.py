# SPDX-License-Identifier: MIT
"""Known steps in a sampler whose network is the ideal one of a smooth random motion."""

import pytest
import torch

from vla_core.errors import ShapeError
from vla_core.models.action_heads.committed import CommittedActions
from vla_core.models.action_heads.process import PROCESSES, make_process

NUM_STEPS, NUM_FROZEN, BATCH = 12, 3, 64
TIMES = torch.arange(NUM_STEPS, dtype=torch.float32)
COVARIANCE = 0.09 * torch.exp(-0.5 * ((TIMES[:, None] - TIMES) / 4.0) ** 2)
OLD = torch.full((BATCH, NUM_STEPS, 1), 0.4)


def sample(name, committed=None):
    """Sample motions from the Gaussian with this covariance, [B, K]."""
    process = make_process(name, 50, "sample", inference_steps=10, clip_sample=None)
    identity = torch.eye(NUM_STEPS)
    if name == "flow":
        levels = [(step / 10, 1.0 - step / 10) for step in range(10)]
    else:
        steps = process.schedule.sampling_steps(10, process.eta, False)
        levels = [(step.signal, step.noise) for step in steps]

    def predict(x, times):
        signal, noise = levels.pop(0)
        spread = signal**2 * COVARIANCE + noise**2 * identity
        gain = signal * COVARIANCE @ torch.linalg.inv(spread)  # of the mean of the clean motion
        clean = torch.einsum("ij,bjk->bik", gain, x)
        return (clean - x) / noise if name == "flow" else clean

    draws = torch.Generator().manual_seed(0)
    noise = torch.randn(BATCH, NUM_STEPS, 1, generator=draws)
    chunk = process.sample(predict, noise, generator=draws, committed=committed)
    return (chunk if committed is None else committed.overwrite(chunk)).squeeze(-1)


def known(overlap=None):
    return CommittedActions(OLD[:, :NUM_FROZEN], overlap, NUM_STEPS, 1)


def step_after_the_frozen(chunk):
    return (chunk[:, NUM_FROZEN] - chunk[:, NUM_FROZEN - 1]).abs().mean()


@pytest.mark.parametrize("name", PROCESSES)
def test_the_rest_of_a_chunk_goes_on_where_the_frozen_steps_end(name):
    plain = sample(name)
    cut = known().overwrite(plain.unsqueeze(-1)).squeeze(-1)
    assert step_after_the_frozen(sample(name, known())) < 0.7 * step_after_the_frozen(cut)


@pytest.mark.parametrize("name", PROCESSES)
def test_guidance_draws_the_rest_to_the_old_chunk_the_less_the_later(name):
    free, guided = sample(name, known()), sample(name, known(OLD[:, NUM_FROZEN:]))
    gain = (free - 0.4).abs().mean(0) - (guided - 0.4).abs().mean(0)
    assert (gain[NUM_FROZEN:-2] > 0.0).all()
    assert (guided - 0.4).abs().mean(0)[NUM_FROZEN] < 0.5 * (guided - 0.4).abs().mean(0)[-1]


def test_guidance_needs_no_frozen_step():
    guided = sample("flow", CommittedActions(None, OLD, NUM_STEPS, 1))
    assert (guided - 0.4).abs().mean() < (sample("flow") - 0.4).abs().mean()


def test_nothing_known_is_refused():
    with pytest.raises(ShapeError, match="must be given"):
        CommittedActions(None, None, NUM_STEPS, 1)


def test_frozen_steps_of_another_batch_are_refused():
    with pytest.raises(ShapeError, match=r"\[64, 12, 1\].*do not fit.*\[2, 12, 1\]"):
        known().overwrite(torch.zeros(2, NUM_STEPS, 1))
