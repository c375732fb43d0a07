# SPDX-License-Identifier: MIT
"""Wait in a service callback without holding up the executor that called it."""

from __future__ import annotations

import time
from collections.abc import Generator

_PAUSE_S = 0.01


class Pause:
    """Awaited in a coroutine callback, lets the executor do its other work.

    The executor comes back whenever anything else wakes it, or at once, by distribution: the rest
    keeps the wait from costing a core. The callback needs a reentrant group, for no other callback
    of its group is executed meanwhile, and the node a timer that wakes the executor.
    """

    def __await__(self) -> Generator[None, None, None]:
        """Rest, then give the executor a turn."""
        time.sleep(_PAUSE_S)
        yield
