# SPDX-License-Identifier: MIT
"""Several datasets in one training, each with its own actions, drawn by weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from vla_core.errors import ConfigError

ItemT = TypeVar("ItemT")


def mix_streams(
    streams: Mapping[str, Callable[[int], Iterator[ItemT]]],
    weights: Mapping[str, float],
    *,
    seed: int = 0,
) -> Iterator[tuple[str, ItemT]]:
    """Draw from streams for ever, each beginning its next pass when one ends.

    A batch belongs to one dataset, since states and actions of two robots differ in size: let the
    streams yield batches, and give the name to the model, as Octo's ``space``.

    Args:
        streams: Function of the number of a pass that yields its items, by name of the dataset.
        weights: How often each is drawn, relative to the others.
        seed: Of the order.

    Yields:
        Name of the dataset, and an item of it.

    Raises:
        ConfigError: Weights and streams do not fit, a weight is not positive, or a pass is empty.
    """
    if set(weights) != set(streams) or not streams:
        raise ConfigError(
            f"weights must name the datasets {', '.join(streams) or 'none'}, got "
            f"{', '.join(weights) or 'none'}."
        )
    wrong = {name: weight for name, weight in weights.items() if not weight > 0.0}
    if wrong:
        raise ConfigError(f"weights must be positive, got {wrong}; leave out a dataset instead.")
    names = list(streams)
    shares = np.array([weights[name] for name in names], np.float64)
    random = np.random.default_rng(seed)
    passes = dict.fromkeys(names, 0)
    current = {name: streams[name](0) for name in names}
    while True:
        name = names[int(random.choice(len(names), p=shares / shares.sum()))]
        item = next(current[name], None)
        if item is None:
            passes[name] += 1
            current[name] = streams[name](passes[name])
            item = next(current[name], None)
            if item is None:
                raise ConfigError(f"dataset '{name}' has no sample.")
        yield name, item
