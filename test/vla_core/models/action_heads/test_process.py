# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.action_heads.process import PROCESSES, make_process

every = pytest.mark.parametrize("name", PROCESSES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@every
@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_perfect_predictions_lead_to_the_actions(name, prediction):
    process = make_process(name, 50, prediction, inference_steps=50, clip_sample=None)
    actions = torch.rand(1, 4, 2) * 2.0 - 1.0
    noise = torch.randn(1, 4, 2)
    state = {"x": noise}

    def predict(x, times):
        state["x"] = x
        if name == "flow":
            return actions - noise
        if prediction == "sample":
            return actions
        step = steps.pop(0)
        return (x - step.signal * actions) / step.noise

    steps = [] if name == "flow" else process.schedule.sampling_steps(50, process.eta, True)
    result = process.sample(predict, noise, generator=generator())
    torch.testing.assert_close(result, actions, atol=1e-3, rtol=0)


@every
def test_corruption_is_reproducible_from_a_generator(name):
    process, actions = make_process(name), torch.randn(3, 4, 2)
    one, other = (process.corrupt(actions, generator(1)) for _ in range(2))
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.times, other.times)
    assert torch.equal(one.target, other.target)


def test_a_flow_predicts_the_velocity_from_noise_to_actions():
    corrupted = make_process("flow").corrupt(torch.zeros(3, 4, 2), generator())
    noise = torch.randn(3, 4, 2, generator=generator())
    assert torch.equal(corrupted.target, -noise)


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_a_diffusion_predicts_noise_or_sample(name):
    actions, noise = torch.randn(3, 4, 2), torch.randn(3, 4, 2, generator=generator())
    to_noise = make_process(name, prediction="epsilon").corrupt(actions, generator())
    to_sample = make_process(name, prediction="sample").corrupt(actions, generator())
    assert torch.equal(to_noise.target, noise)
    assert torch.equal(to_sample.target, actions)
    assert torch.equal(to_noise.x, to_sample.x)


def test_each_process_has_its_own_number_of_steps():
    assert [make_process(name).inference_steps for name in PROCESSES] == [100, 10, 4]


@every
def test_the_last_actions_are_clipped(name):
    process = make_process(name, inference_steps=3, clip_sample=0.2)
    result = process.sample(lambda x, times: 10.0 * torch.ones_like(x), torch.randn(2, 4, 2))
    assert result.abs().max() <= 0.2 + 1e-6


@every
def test_no_step_is_refused(name):
    with pytest.raises(ConfigError, match="got 0"):
        make_process(name, inference_steps=0)


def test_an_unknown_process_is_refused():
    with pytest.raises(ConfigError, match="must be one of 'ddpm', 'ddim', 'flow', got 'euler'"):
        make_process("euler")
