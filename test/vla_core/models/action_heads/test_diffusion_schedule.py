# SPDX-License-Identifier: MIT
import itertools
import math

import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.action_heads.diffusion_schedule import DiffusionSchedule, draw_noise


@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "linear"])
def test_alpha_bar_falls_from_almost_one_to_almost_zero(schedule):
    bars = DiffusionSchedule(100, schedule).alpha_bars
    assert all(later < earlier for earlier, later in itertools.pairwise(bars))
    assert bars[0] > 0.99
    assert 0.0 < bars[-1] < 1e-4


def test_squared_cosine_schedule_is_the_published_curve():
    bars = DiffusionSchedule(100).alpha_bars

    def curve(time):
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    for index in (0, 10, 50, 90):
        assert bars[index] == pytest.approx(curve((index + 1) / 100) / curve(0.0), rel=1e-9)


def test_noising_in_one_step_has_the_mean_and_variance_of_noising_step_by_step():
    schedule = DiffusionSchedule(20)
    bars = [1.0, *schedule.alpha_bars]
    factor, variance = 1.0, 0.0
    for earlier, later in itertools.pairwise(bars):
        alpha = later / earlier
        factor, variance = factor * math.sqrt(alpha), variance * alpha + (1.0 - alpha)
        timestep = len([bar for bar in bars if bar > later]) - 1
        assert schedule.signal[timestep].item() == pytest.approx(factor, rel=1e-5)
        assert schedule.noise[timestep].item() ** 2 == pytest.approx(variance, rel=1e-5)


def test_each_row_is_noised_to_its_own_timestep():
    schedule = DiffusionSchedule(10)
    sample, noise = torch.ones(2, 3, 4), torch.zeros(2, 3, 4)
    noised = schedule.add_noise(sample, noise, torch.tensor([0, 9]))
    for row, timestep in enumerate((0, 9)):
        torch.testing.assert_close(noised[row], schedule.signal[timestep].expand(3, 4))


@pytest.mark.parametrize("num_steps", [1, 3, 10, 50])
def test_ddim_with_the_true_noise_recovers_the_sample(num_steps):
    schedule = DiffusionSchedule(50)
    torch.manual_seed(0)
    sample, noise = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    steps = schedule.sampling_steps(num_steps, eta=0.0)
    x = steps[0].signal * sample + steps[0].noise * noise
    for step in steps:
        recovered = step.sample_from_noise(x, noise)
        torch.testing.assert_close(recovered, sample, atol=1e-6, rtol=0.0)
        x = step.advance(x, recovered, None)
    torch.testing.assert_close(x, sample, atol=1e-6, rtol=0.0)


def test_sampling_starts_at_the_last_timestep_and_descends():
    timesteps = [step.timestep for step in DiffusionSchedule(100).sampling_steps(10, eta=0.0)]
    assert timesteps == [99, 89, 79, 69, 59, 49, 39, 29, 19, 9]


def test_sampling_of_predicted_noise_starts_from_the_middle_of_the_intervals():
    steps = DiffusionSchedule(100).sampling_steps(10, eta=0.0, skip_pure_noise=True)
    assert [step.timestep for step in steps] == [94, 84, 74, 64, 54, 44, 34, 24, 14, 4]


@pytest.mark.parametrize("skip_pure_noise", [True, False])
def test_as_many_steps_as_timesteps_visit_each_once(skip_pure_noise):
    steps = DiffusionSchedule(7).sampling_steps(7, eta=1.0, skip_pure_noise=skip_pure_noise)
    assert [step.timestep for step in steps] == [6, 5, 4, 3, 2, 1, 0]


def test_ddpm_steps_have_the_published_posterior():
    schedule = DiffusionSchedule(20)
    bars = schedule.alpha_bars
    for step in schedule.sampling_steps(20, eta=1.0)[:-1]:
        bar, lower = bars[step.timestep], bars[step.timestep - 1]
        alpha, beta = bar / lower, 1.0 - bar / lower
        assert step.take == pytest.approx(math.sqrt(lower) * beta / (1.0 - bar))
        assert step.keep == pytest.approx(math.sqrt(alpha) * (1.0 - lower) / (1.0 - bar))
        assert step.sigma**2 == pytest.approx(beta * (1.0 - lower) / (1.0 - bar))


def test_last_step_adds_no_noise_and_returns_the_predicted_sample():
    for eta in (0.0, 1.0):
        last = DiffusionSchedule(20).sampling_steps(7, eta)[-1]
        sample = torch.randn(3)
        assert torch.equal(last.advance(torch.randn(3), sample, None), sample)


def test_noise_is_drawn_from_the_generator_alone():
    like = torch.zeros(3, 2)
    first = draw_noise(like, torch.Generator().manual_seed(1))
    torch.manual_seed(99)
    assert torch.equal(first, draw_noise(like, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("num_steps", [0, 21])
def test_impossible_numbers_of_steps_are_refused(num_steps):
    with pytest.raises(ConfigError, match=rf"1 to 20 \(diffusion_steps\), got {num_steps}"):
        DiffusionSchedule(20).sampling_steps(num_steps, eta=0.0)


def test_unknown_schedule_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'squaredcos_cap_v2', 'linear', got 'cosine'"):
        DiffusionSchedule(20, "cosine")
