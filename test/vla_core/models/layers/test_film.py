# SPDX-License-Identifier: MIT
import torch

from vla_core.models.layers.film import FiLM, modulate


def test_film_starts_as_the_identity():
    x = torch.randn(3, 4)
    assert torch.equal(FiLM(4, 2)(x, torch.randn(3, 2)), x)


def test_modulation_scales_by_one_plus_gamma_and_shifts_by_beta():
    gamma, beta = torch.tensor([[0.5, -1.0]]), torch.tensor([[3.0, 4.0]])
    result = modulate(torch.tensor([[2.0, 7.0]]), torch.cat([gamma, beta], dim=-1))
    assert torch.equal(result, torch.tensor([[6.0, 4.0]]))


def test_condition_gets_a_gradient_once_film_is_no_identity():
    film = FiLM(4, 2)
    torch.nn.init.normal_(film.projection.weight)
    condition = torch.randn(3, 2, requires_grad=True)
    film(torch.randn(3, 4), condition).sum().backward()
    assert condition.grad.abs().sum() > 0
