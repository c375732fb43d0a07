# SPDX-License-Identifier: MIT
"""Several datasets in one training, drawn by weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_core.errors import ConfigError

# Keeps these numbers apart from others that are drawn from the same seed and step.
_STREAM = 1


class Mixture:
    """Says which dataset the batch of a step is from; seed and step alone decide.

    A batch belongs to one dataset, since states and actions of two robots differ in size.

    Args:
        weights: How often each dataset is drawn, relative to the others.
        seed: Of the order.

    Raises:
        ConfigError: There is no weight, or one is not positive.
    """

    def __init__(self, weights: Sequence[float], seed: int = 0) -> None:
        if not weights or any(not weight > 0.0 for weight in weights):
            raise ConfigError(
                f"weights must be positive, got {list(weights)}; leave out a dataset instead."
            )
        self._ends = np.cumsum(weights) / np.sum(weights)
        self._seed = seed

    def choose(self, step: int) -> int:
        """Return the place of the dataset of a step."""
        draw = np.random.default_rng([self._seed, step, _STREAM]).random()
        return min(int(np.searchsorted(self._ends, draw, side="right")), len(self._ends) - 1)
