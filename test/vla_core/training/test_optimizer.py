# SPDX-License-Identifier: MIT
from dataclasses import replace

import pytest
import torch
from torch import nn

from vla_core.training.optimizer import WeightAverage, build_optimizer, build_schedule
from vla_core.training.recipe import load_recipe


@pytest.fixture
def options():
    recipe = load_recipe("groot").optimizer
    return replace(recipe, learning_rate=0.4, warmup_steps=10, weight_decay=0.1, ema_decay=0.9)


def test_frozen_parameters_are_not_optimized(options):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    groups = build_optimizer(model, options).param_groups
    optimized = {parameter for group in groups for parameter in group["params"]}
    assert optimized == set(model[1].parameters())


def test_biases_do_not_decay(options):
    model = nn.Linear(2, 2)
    groups = build_optimizer(model, options).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert (decay[id(model.weight)], decay[id(model.bias)]) == (0.1, 0.0)


def test_learning_rate_rises_to_its_peak_and_falls_to_zero(options):
    optimizer = build_optimizer(nn.Linear(1, 1), options)
    schedule = build_schedule(optimizer, options, steps=110)
    rates = []
    for _ in range(111):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:10] == pytest.approx([0.04 * (i + 1) for i in range(10)])
    assert max(rates) == pytest.approx(0.4)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[60] == pytest.approx(0.2)
    assert rates[110] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("schedule", "at_40", "at_90"), [("rsqrt", 0.2, 0.4 / 3), ("constant", 0.4, 0.4)]
)
def test_learning_rate_after_the_warm_up_is_that_of_the_schedule(options, schedule, at_40, at_90):
    optimizer = build_optimizer(nn.Linear(1, 1), options)
    chosen = build_schedule(optimizer, replace(options, schedule=schedule), steps=110)
    rates = []
    for _ in range(100):
        rates.append(chosen.get_last_lr()[0])
        optimizer.step()
        chosen.step()
    assert rates[:10] == pytest.approx([0.04 * (i + 1) for i in range(10)])
    assert (rates[10], rates[40], rates[90]) == pytest.approx((0.4, at_40, at_90))


def test_backbone_has_its_own_learning_rate(options):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    options = replace(options, backbone_learning_rate=0.01)
    groups = build_optimizer(model, options, backbone=model[0]).param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {rates[id(p)] for p in model[0].parameters()} == {0.01}
    assert {rates[id(p)] for p in model[1].parameters()} == {0.4}


def test_average_approaches_constant_weights():
    model = nn.Linear(2, 2)
    average = WeightAverage(model, decay=0.9)
    nn.init.constant_(model.weight, 3.0)
    for _ in range(200):
        average.update()
    torch.testing.assert_close(average.state_dict()["weight"], torch.full((2, 2), 3.0))


def test_applied_average_leaves_the_weights_as_they_were():
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.weight.add_(1.0)
    with average.applied():
        torch.testing.assert_close(model.weight, before)
    torch.testing.assert_close(model.weight, before + 1.0)


def test_restored_average_goes_on_alike():
    model = nn.Linear(2, 2)
    first, second = WeightAverage(model, decay=0.9), WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.weight.add_(1.0)
    first.update()
    second.load_state_dict(first.state_dict())
    first.update()
    second.update()
    for key, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[key], value)
