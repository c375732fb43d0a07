# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.encoders import AbstractStateEncoder, MLPStateEncoder


def test_states_become_features_of_the_hidden_width():
    encoder = MLPStateEncoder(7, 16)
    assert isinstance(encoder, AbstractStateEncoder)
    assert encoder(torch.randn(3, 7)).shape == (3, 16)
    assert (encoder.state_dim, encoder.output_dim) == (7, 16)


def test_number_of_layers_is_that_of_linear_maps():
    layers = MLPStateEncoder(7, 16, num_layers=4).layers
    assert sum(isinstance(layer, torch.nn.Linear) for layer in layers) == 4


def test_no_layer_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        MLPStateEncoder(7, 16, num_layers=0)
