# SPDX-License-Identifier: MIT
import numpy as np
import pytest

from vla_core.dataset import Mixture
from vla_core.errors import ConfigError


def test_datasets_are_drawn_by_weight():
    mixture = Mixture([3.0, 1.0, 4.0])
    drawn = [mixture.choose(step) for step in range(2000)]
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    assert shares == pytest.approx([0.375, 0.125, 0.5], abs=0.04)


def test_seed_and_step_alone_decide():
    steps = [7, 3, 90, 12, 41, 5, 66, 8]
    forward = [Mixture([1.0, 1.0], seed=5).choose(step) for step in steps]
    mixture = Mixture([1.0, 1.0], seed=5)
    assert [mixture.choose(step) for step in reversed(steps)] == forward[::-1]
    assert (
        len({tuple(Mixture([1.0, 1.0], s).choose(step) for step in steps) for s in range(9)}) > 1
    )


@pytest.mark.parametrize("weights", [[], [1.0, 0.0], [1.0, -2.0], [float("nan")]])
def test_weights_must_be_positive(weights):
    with pytest.raises(ConfigError, match="weights must be positive"):
        Mixture(weights)
