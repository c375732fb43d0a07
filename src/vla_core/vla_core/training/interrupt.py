# SPDX-License-Identifier: MIT
"""Ctrl-C during training: the run ends after a whole step, and is saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interrupt:
    """Whether the run was asked to end."""

    requested: bool = False


@contextmanager
def catch_interrupt(*, insist: bool) -> Iterator[Interrupt]:
    """Let Ctrl-C, or the SIGTERM of a cluster, end the loop after a whole step.

    Args:
        insist: Whether a second signal stops at once. A launcher of several processes passes on
            the Ctrl-C that they have had from the terminal already.
    """
    interrupt = Interrupt()

    def request(number: int, frame: FrameType | None) -> None:
        if interrupt.requested and insist:
            raise KeyboardInterrupt
        interrupt.requested = True

    previous = {number: signal.signal(number, request) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
