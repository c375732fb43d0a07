# SPDX-License-Identifier: MIT
"""Make a model that was loaded ready for a loop."""

from __future__ import annotations

import gc
import time
from typing import Protocol

_NUM_TIMES = 2


class _Model(Protocol):
    def warm_up(self) -> None:
        """Infer once without consequences."""


def warm_up(model: _Model) -> float:
    """Infer without consequences; return how long the last inference took [ms]."""
    for _ in range(_NUM_TIMES):
        start = time.monotonic()
        model.warm_up()
    latency_ms = (time.monotonic() - start) * 1e3
    # Collecting again and again what is there to stay would interrupt the inference.
    gc.collect()
    gc.freeze()
    return latency_ms
