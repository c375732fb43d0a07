# SPDX-License-Identifier: MIT
import copy
import json

import pytest
import torch
from torch import nn

from vla_core.errors import ConfigError, UnknownNameError
from vla_core.models.components import Component, build_component


class Scale(Component):
    def __init__(self, dim, factor=2.0):
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.factor = factor

    def forward(self, x):
        return self.factor * self.linear(x)


class Wrapped(Component):
    def __init__(self, inner, note="none"):
        super().__init__()
        self.inner = inner
        self.note = note


def test_configuration_has_the_name_and_every_keyword():
    assert Scale(3).get_config() == {"name": "Scale", "dim": 3, "factor": 2.0}
    assert Scale(dim=4, factor=1.0).get_config() == {"name": "Scale", "dim": 4, "factor": 1.0}


def test_a_component_is_rebuilt_from_json():
    rebuilt = build_component(json.loads(json.dumps(Scale(3, factor=5.0).get_config())), Scale)
    assert (rebuilt.linear.in_features, rebuilt.factor) == (3, 5.0)


def test_a_component_within_a_component_is_rebuilt():
    config = json.loads(json.dumps(Wrapped(Scale(3, factor=7.0)).get_config()))
    assert build_component(config, Wrapped).inner.factor == 7.0


def test_a_copy_keeps_its_configuration_and_weights():
    original = Scale(3, factor=5.0)
    copied = copy.deepcopy(original)
    assert copied.get_config() == original.get_config()
    x = torch.ones(1, 3)
    assert torch.equal(copied(x), original(x))


def test_a_value_that_json_has_not_is_refused():
    with pytest.raises(ConfigError, match=r"Wrapped cannot be saved.*Tensor"):
        Wrapped(torch.ones(1)).get_config()


def test_an_unknown_key_is_refused_with_the_valid_ones():
    with pytest.raises(ConfigError, match=r"unknown keys \['scale'\]; valid: dim, factor"):
        build_component({"name": "Scale", "dim": 3, "scale": 1.0}, Scale)


def test_an_unknown_name_is_refused_with_the_available_ones():
    with pytest.raises(UnknownNameError, match=r"Component 'Skale' is not known.*'Scale'"):
        build_component({"name": "Skale"}, Component)


def test_a_component_of_another_kind_is_refused():
    with pytest.raises(UnknownNameError, match="Wrapped 'Scale' is not known"):
        build_component({"name": "Scale", "dim": 3}, Wrapped)


def test_a_configuration_without_a_name_is_refused():
    with pytest.raises(ConfigError, match=r"Scale must have a 'name', got keys \['dim'\]"):
        build_component({"dim": 3}, Scale)
