# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.action_heads.flow_path import FlowPath, embed_flow_times

both = pytest.mark.parametrize("convention", ["pi0", "gr00t"])
NOISE_TIME = {"pi0": 1.0, "gr00t": 0.0}


@both
def test_the_path_runs_from_noise_to_actions(convention):
    path, actions, noise = FlowPath(convention), torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    at_noise = torch.full((2,), NOISE_TIME[convention])
    assert torch.equal(path.interpolate(actions, noise, at_noise), noise)
    assert torch.equal(path.interpolate(actions, noise, 1.0 - at_noise), actions)


@both
def test_velocity_is_the_derivative_of_the_path_by_time(convention):
    path = FlowPath(convention)
    actions, noise = torch.randn(3, 4, 2).double(), torch.randn(3, 4, 2).double()
    times = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    difference = path.interpolate(actions, noise, times + 1e-3) - path.interpolate(
        actions, noise, times
    )
    torch.testing.assert_close(difference / 1e-3, path.velocity(actions, noise))


@both
@pytest.mark.parametrize("num_steps", [1, 7])
def test_the_true_velocity_carries_noise_to_the_actions(convention, num_steps):
    path, actions, noise = FlowPath(convention), torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    velocity = path.velocity(actions, noise)
    result = path.integrate(lambda x, index: velocity, noise, num_steps)
    torch.testing.assert_close(result, actions)


@both
def test_each_step_starts_on_the_path_at_its_time(convention):
    path, actions, noise = FlowPath(convention), torch.randn(1, 4), torch.randn(1, 4)
    times = path.times(5)
    assert times[0] == NOISE_TIME[convention]

    def velocity(x, index):
        expected = path.interpolate(actions, noise, torch.tensor([times[index]]))
        torch.testing.assert_close(x, expected)
        return path.velocity(actions, noise)

    path.integrate(velocity, noise, 5)


@both
def test_training_times_prefer_the_noise(convention):
    draws = torch.Generator().manual_seed(0)
    times = FlowPath(convention).draw_times(20_000, torch.device("cpu"), draws)
    noisiness = times if convention == "pi0" else 1.0 - times
    assert times.min() >= 0.0
    assert times.max() <= 1.0
    # Beta(1.5, 1): mean 0.6, distribution function t^1.5.
    assert noisiness.mean().item() == pytest.approx(0.6, abs=0.01)
    assert (noisiness < 0.5).float().mean().item() == pytest.approx(0.5**1.5, abs=0.01)


def test_pi0_never_draws_a_clean_action():
    times = FlowPath("pi0").draw_times(10_000, torch.device("cpu"))
    assert times.min() >= 1e-3


def test_times_are_reproducible_from_a_generator():
    draws = [
        FlowPath().draw_times(5, torch.device("cpu"), torch.Generator().manual_seed(1))
        for _ in range(2)
    ]
    assert torch.equal(*draws)


def test_neighbouring_times_are_embedded_apart():
    embedded = embed_flow_times(torch.linspace(0.0, 1.0, 101), 32)
    assert embedded.shape == (101, 32)
    assert embedded.abs().max() <= 1.0
    distances = torch.cdist(embedded, embedded) + 10.0 * torch.eye(101)
    assert distances.min() > 0.1


def test_an_odd_width_is_refused():
    with pytest.raises(ConfigError, match="even, got 5"):
        embed_flow_times(torch.zeros(1), 5)


def test_no_step_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        FlowPath().times(0)


def test_an_unknown_convention_is_refused():
    with pytest.raises(ConfigError, match="must be one of 'pi0', 'gr00t', got 'flow'"):
        FlowPath("flow")
